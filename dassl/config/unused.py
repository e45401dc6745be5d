"""For plugins: keys that are accepted and never read.

Dassl's YAML files set them for domain adaptation, domain generalization and semi-supervised learning, none of
which this engine does. Accepting them lets such files merge; setting one to another value gives a warning.
"""


def unused_defaults() -> dict:
    """The keys with Dassl's defaults, nested like the config."""
    crossgrad = {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5}
    mean_teacher = {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5}
    return {
        "DATASET": {
            "SOURCE_DOMAINS": (),
            "TARGET_DOMAINS": (),
            "NUM_LABELED": -1,
            "VAL_PERCENT": 0.1,
            "STL10_FOLD": -1,
            "CIFAR_C_TYPE": "",
            "CIFAR_C_LEVEL": 1,
            "ALL_AS_UNLABELED": False,
        },
        "DATALOADER": {
            "TRAIN_U": {
                "SAME_AS_X": True,
                "SAMPLER": "RandomSampler",
                "BATCH_SIZE": 32,
                "N_DOMAIN": 0,
                "N_INS": 16,
            },
        },
        "TRAIN": {"COUNT_ITER": "train_x"},
        "TRAINER": {
            "MCD": {"N_STEP_F": 4},
            "MME": {"LMDA": 0.1},
            "CDAC": {
                "CLASS_LR_MULTI": 10,
                "RAMPUP_COEF": 30,
                "RAMPUP_ITRS": 1000,
                "TOPK_MATCH": 5,
                "P_THRESH": 0.95,
                "STRONG_TRANSFORMS": (),
            },
            "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
            "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
            "DAEL": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
            "CROSSGRAD": crossgrad,
            "DDAIG": {
                "G_ARCH": "",
                "LMDA": 0.3,
                "CLAMP": False,
                "CLAMP_MIN": -1.0,
                "CLAMP_MAX": 1.0,
                "WARMUP": 0,
                "ALPHA": 0.5,
            },
            "DAELDG": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
            "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
            "ENTMIN": {"LMDA": 0.001},
            "MEANTEACHER": mean_teacher,
            "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
            "FIXMATCH": {"WEIGHT_U": 1.0, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
            "CG": crossgrad,  # older spellings of CROSSGRAD and MEANTEACHER
            "MEANTEA": mean_teacher,
        },
    }
