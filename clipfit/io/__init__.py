"""The ground floor: knows neither CLIP nor the engine. Importing this package imports no torch."""
