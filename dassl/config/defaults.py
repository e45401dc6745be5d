"""The engine's configuration keys: default, meaning, unit.

The type of a default counts: a merged value must have it (see `dassl.config.node`). Keys of a method belong
to the trainer that reads them and are declared by its own YAML file.
"""

from dassl.config.node import CfgNode


def engine_defaults() -> CfgNode:
    """The keys that image classification reads, at their defaults."""
    cfg = CfgNode()
    cfg.VERSION = 1  # of this set of keys; nothing depends on it
    cfg.OUTPUT_DIR = "./output"  # folder of the run: log, results, checkpoints
    cfg.RESUME = ""  # folder of an interrupted run to go on from; "": look in OUTPUT_DIR
    cfg.SEED = -1  # of every generator; negative: drawn by chance
    cfg.USE_CUDA = True  # use a GPU if there is one
    cfg.VERBOSE = True  # print what is built
    cfg.THREADS = 0  # CPU threads of torch; 0: a launcher settles it, train.py to min(4, cores)
    cfg.DETERMINISTIC = False  # on a GPU, only kernels that always give the same bits (slower)

    cfg.RUN = CfgNode()  # what a launcher says about a run; the engine only writes it down
    cfg.RUN.PROTOCOL = ""  # e.g. base2new
    cfg.RUN.DATASET_FILE = ""  # stem of the data set's YAML
    cfg.RUN.SOURCE = ""  # stem of the YAML of the data set that a tested model was trained on; "": the same
    cfg.RUN.EVAL_ONLY = False  # the model is loaded, not trained
    cfg.RUN.TEST_ONLY = False  # nothing trains: of the images only those of TEST.SPLIT are read
    cfg.RUN.NEW_CLASSES = False  # the test has classes that the model was not trained on
    cfg.RUN.MODEL_DIR = ""  # run folder it is loaded from
    cfg.RUN.LOAD_EPOCH = -1  # the epoch asked for; -1: none
    cfg.RUN.DIGEST_GB = 8.0  # of images trained on, whose content counts; of the rest one in a hundred [GB]

    cfg.INPUT = CfgNode()
    cfg.INPUT.SIZE = (224, 224)  # height, width of the images that the model sees [pixels]
    cfg.INPUT.INTERPOLATION = "bilinear"  # of resizing: bilinear, bicubic or nearest
    cfg.INPUT.RESIZE = "shortest"  # in tests: the smaller edge, then a center crop; or squash, both edges
    cfg.INPUT.TRANSFORMS = ()  # steps to apply, in any order; dassl/data/transforms has their names
    cfg.INPUT.NO_TRANSFORM = False  # hand out PIL images as they are
    cfg.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]  # normalize: red, green, blue, of values from 0 to 1
    cfg.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]  # normalize: standard deviation, likewise
    cfg.INPUT.CROP_PADDING = 4  # random_crop: border added on every side before cropping [pixels]
    cfg.INPUT.RRCROP_SCALE = (0.08, 1.0)  # random_resized_crop: smallest and largest part of the image's area
    cfg.INPUT.CUTOUT_N = 1  # cutout: number of holes
    cfg.INPUT.CUTOUT_LEN = 16  # cutout: side of a hole [pixels]
    cfg.INPUT.GN_MEAN = 0.0  # gaussian_noise: mean of the noise, after normalize
    cfg.INPUT.GN_STD = 0.15  # gaussian_noise: its standard deviation
    cfg.INPUT.RANDAUGMENT_N = 2  # randaugment: operations per image
    cfg.INPUT.RANDAUGMENT_M = 10  # randaugment: their magnitude, 0 to 30
    cfg.INPUT.COLORJITTER_B = (
        0.4  # colorjitter: largest change of brightness, as a factor from 1 - B to 1 + B
    )
    cfg.INPUT.COLORJITTER_C = 0.4  # colorjitter: of contrast
    cfg.INPUT.COLORJITTER_S = 0.4  # colorjitter: of saturation
    cfg.INPUT.COLORJITTER_H = 0.1  # colorjitter: of hue [turns of the color circle]
    cfg.INPUT.RGS_P = 0.2  # randomgrayscale: probability
    cfg.INPUT.GB_P = 0.5  # gaussian_blur: probability
    cfg.INPUT.GB_K = 21  # gaussian_blur: side of the kernel, odd [pixels]

    cfg.DATASET = CfgNode()
    cfg.DATASET.ROOT = ""  # folder that holds the folders of the data sets
    cfg.DATASET.NAME = ""  # registered name of the data set
    cfg.DATASET.NUM_SHOTS = -1  # training images per class; below 1: all of them
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (the first half, rounded up) or new (the rest)
    cfg.DATASET.IMAGES = ""  # own pictures: a folder, or a list of them (datasets/photos.py)
    cfg.DATASET.TEST_SHARE = 0.2  # of own pictures that nobody has given a part; 0: none are tested on
    cfg.DATASET.FEWSHOT_LIST = ""  # file that lists the images to train on; "": they are sampled

    cfg.DATALOADER = CfgNode()
    cfg.DATALOADER.NUM_WORKERS = 4  # processes that read images; 0: the run's own; -1: as many as pay
    cfg.DATALOADER.K_TRANSFORMS = 1  # augmented versions of a training image per batch
    cfg.DATALOADER.RETURN_IMG0 = False  # add the resized, not augmented image as "img0"
    cfg.DATALOADER.CACHE_GB = 2.0  # memory for decoded training images; 0: none are kept [GB]
    cfg.DATALOADER.TEST_CACHE_GB = 8.0  # disk for resized test pictures, of all runs; 0: none are kept [GB]
    cfg.DATALOADER.TRAIN_X = CfgNode()
    cfg.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"  # or another name in dassl/data/samplers.py
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 32  # images per training step
    cfg.DATALOADER.TRAIN_X.DROP_LAST = True  # leave out the last batch of an epoch where it is incomplete
    cfg.DATALOADER.TRAIN_X.N_INS = 16  # RandomClassSampler: images per class in a batch
    cfg.DATALOADER.TRAIN_X.N_DOMAIN = 0  # RandomDomainSampler: domains per batch; below 1: all
    cfg.DATALOADER.TEST = CfgNode()
    cfg.DATALOADER.TEST.SAMPLER = "SequentialSampler"
    cfg.DATALOADER.TEST.BATCH_SIZE = 32

    cfg.MODEL = CfgNode()
    cfg.MODEL.INIT_WEIGHTS = ""  # checkpoint whose tensors the training starts from
    cfg.MODEL.MEMORY_GB = 0.0  # for what backward passes keep; 0: a share of the device's, settled once [GB]
    cfg.MODEL.BACKBONE = CfgNode()
    cfg.MODEL.BACKBONE.NAME = ""  # which network; the trainer says what it accepts
    cfg.MODEL.BACKBONE.PRETRAINED = True  # passed on to a registered backbone
    cfg.MODEL.HEAD = CfgNode()
    cfg.MODEL.HEAD.NAME = ""  # registered head between backbone and classifier; "": none
    cfg.MODEL.HEAD.HIDDEN_LAYERS = ()  # its widths
    cfg.MODEL.HEAD.ACTIVATION = "relu"
    cfg.MODEL.HEAD.BN = True  # batch normalization in the head
    cfg.MODEL.HEAD.DROPOUT = 0.0  # probability

    cfg.OPTIM = CfgNode()
    cfg.OPTIM.NAME = "adam"  # adam, amsgrad, sgd, rmsprop, radam or adamw
    cfg.OPTIM.LR = 0.0003  # learning rate that the schedule starts from
    cfg.OPTIM.WEIGHT_DECAY = 5e-4
    cfg.OPTIM.MOMENTUM = 0.9  # sgd, rmsprop
    cfg.OPTIM.SGD_DAMPNING = 0  # sgd: dampening, spelled as everywhere in the family
    cfg.OPTIM.SGD_NESTEROV = False
    cfg.OPTIM.RMSPROP_ALPHA = 0.99
    cfg.OPTIM.ADAM_BETA1 = 0.9  # adam, amsgrad, radam, adamw
    cfg.OPTIM.ADAM_BETA2 = 0.999
    cfg.OPTIM.STAGED_LR = False  # LR for NEW_LAYERS only, LR * BASE_LR_MULT for everything else
    cfg.OPTIM.NEW_LAYERS = ()  # names of direct children (modules or parameters) of the model
    cfg.OPTIM.BASE_LR_MULT = 0.1
    cfg.OPTIM.LR_SCHEDULER = "single_step"  # single_step, multi_step or cosine
    cfg.OPTIM.STEPSIZE = (-1,)  # single_step: period (-1: MAX_EPOCH); multi_step: milestones [epochs]
    cfg.OPTIM.GAMMA = 0.1  # factor of a step
    cfg.OPTIM.LR_MIN = 0.0  # cosine: learning rate that it falls to
    cfg.OPTIM.MAX_EPOCH = 10
    cfg.OPTIM.MAX_STEPS = 0  # length of training in steps, over which the schedule of MAX_EPOCH is stretched
    cfg.OPTIM.WARMUP_EPOCH = (
        -1
    )  # length of the warm-up, after which the schedule begins; below 1: none [epochs]
    cfg.OPTIM.WARMUP_TYPE = "linear"  # linear or constant
    cfg.OPTIM.WARMUP_CONS_LR = 1e-5  # constant: learning rate during the warm-up
    cfg.OPTIM.WARMUP_MIN_LR = 1e-5  # linear: learning rate of the first epoch
    cfg.OPTIM.WARMUP_RECOUNT = True  # the schedule counts its epochs from the end of the warm-up, not from 0

    cfg.TRAIN = CfgNode()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # save every so many epochs, and after the last; 0: after the last only
    cfg.TRAIN.PRINT_FREQ = 10  # a progress line every so many steps
    cfg.TRAIN.CUDA_GRAPH = False  # forward and backward pass of a step as one launch, on a GPU
    cfg.TRAIN.RECORD = []  # of every trained tensor at every iteration: gradient, change

    cfg.TEST = CfgNode()
    cfg.TEST.EVALUATOR = "Classification"  # registered evaluator
    cfg.TEST.PER_CLASS_RESULT = False  # print the accuracy of every class
    cfg.TEST.COMPUTE_CMAT = False  # write the confusion matrix to <OUTPUT_DIR>/cmat.pt
    cfg.TEST.PREDICTIONS = True  # write what the final test said of every picture to predictions.jsonl
    cfg.TEST.ACCEPT = []  # keys in which the run that trained a tested model may differ, such as INPUT.SIZE
    cfg.TEST.NO_TEST = False  # do not test after training
    cfg.TEST.SPLIT = "test"  # test or val
    cfg.TEST.FINAL_MODEL = (
        "last_step"  # last_step, or best_val: the epoch that was best on the validation set
    )

    cfg.FEATURES = CfgNode()  # of image towers that do not train, for trainers that keep them
    cfg.FEATURES.STORE = False  # find features again that any run has computed: True, or a folder for them
    cfg.FEATURES.STORE_GB = 20.0  # disk for them, of all runs [GB]
    cfg.FEATURES.VIEWS_GB = 2.0  # memory for those of augmented views [GB]; what is beyond is computed again

    cfg.TRAINER = CfgNode()
    cfg.TRAINER.NAME = ""  # registered name of the trainer; its own keys stand in a node beside this one
    return cfg
