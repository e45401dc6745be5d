"""How every figure looks. Colours differ for colour-blind readers and, by their lightness, in grey too."""

# Okabe and Ito's palette without yellow, in the order in which series take them.
COLORS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((), (5, 1.5), (2, 1.5), (6, 1.5, 1.5, 1.5), (1, 1), (8, 2), (3, 1, 1, 1))
GREY = "#777777"
GRID = "#DDDDDD"

PANEL_SIZE = (3.4, 2.6)  # inches
SMALL_PANEL_SIZE = (2.3, 1.9)  # of a figure with more than three panels
DPI = 200

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.2,
    "lines.markeredgewidth": 1.1,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": DPI,
    "pdf.fonttype": 42,  # letters stay letters: searchable, and accepted by publishers
    "svg.hashsalt": "figure",
}

# Nothing in a file depends on when or with which version it was drawn.
METADATA = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}


def series(index: int) -> dict:
    """Colour, marker and dashes of the index-th series, told apart by each of the three."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[(index + index // len(COLORS)) % len(MARKERS)],
        "dashes": DASHES[index % len(DASHES)],
    }
