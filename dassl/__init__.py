"""The plugin engine: configuration, registries, data, life cycle, evaluation, checkpoints.

It offers the public interface of Dassl, so that trainers and data sets written against that interface import
and run here unchanged. It knows no CLIP, no method and no data set. Importing `dassl` or `dassl.config`
imports no torch.

What only such files ("plugins") need stands apart from what the engine runs on, in `for_plugins.py` of its
package. Who reads the engine may leave these out:

    config/for_plugins.py           a config that a plugin built from Dassl's defaults gets our keys
    config/unused.py                keys of Dassl's that are accepted and never read
    data/for_plugins.py             batches by class or by domain
    data/datasets/for_plugins.py    `DatasetBase.download_data`
    data/transforms/for_plugins.py  steps that torchvision does not have: Cutout, noise, ...
    modeling/                       registries of backbones and heads, SimpleNet
    optim/for_plugins.py            RAdam, learning rates per layer, warm-up schedulers
    optim/radam.py                  RAdam's path
    utils/for_plugins.py            switching layers on and off, the environment report, downloads

Plugins import them under Dassl's paths: `dassl.utils.open_all_layers`, `dassl.data.samplers`, ... The trainer
for unlabelled images, `TrainerXU`, stands in engine/trainer.py and only says that it is not provided.
"""
