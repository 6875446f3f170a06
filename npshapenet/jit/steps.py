"""The table of steps: what the plan writes and the compiled engine reads.

A step is one row of int64. Column 0 is its kind; what the other columns mean depends on the
kind. Offsets and distances are counted in floats, from the start of the arena or of the
packed weights. A *pixel* is one position of a channels-last image, with all its channels.

How a convolution is cut up, in words that the other modules use too:

A *vector register* holds V floats inside the CPU, and one instruction multiplies and adds all of
them. An *accumulator* is one that holds V sums in the making. There are only 16 or 32 registers;
then come the caches, the nearest the smallest and fastest, then memory.

*Depth*: the inputs that one output value sums, kh · kw · C of them (where kw > 1, C filled up as
the pixel is, with weights of 0).
*Tile*: MR neighbouring output pixels × NR output channels, computed in vector registers of V
floats. M and N count the rows and columns of a matrix product, R stands for register: the usual
names. Each CPU has its table of tiles, in cpu.py.
*Panel*: the packed weights of NR output channels.
*Depth block*: a part of the depth, whose weights in one panel stay in a near cache.
*Strip*: the output pixels that go through all panels of one width before the next ones do.

An example stands below the table.
"""

from __future__ import annotations

# Floats in the longest vector register (AVX-512); shorter ones divide it.
CHANNEL_MULTIPLE = 16

COLUMNS = 40
KIND = 0

# Kinds of steps.
LOAD, RESIZE, CLEAR, CONVOLUTION, DEPTHWISE, ADD, NORM, STORE, CLAMP, PLACE = range(10)
COPY, MEAN_PLACES, POINT_DEPTHWISE, FIT_SIMILARITY, GRAY = range(10, 15)
# Those of the default network, and of most. The others are compiled when a network has one.
BASIC_KINDS = frozenset(
    {LOAD, RESIZE, CLEAR, CONVOLUTION, DEPTHWISE, POINT_DEPTHWISE, FIT_SIMILARITY, COPY, STORE}
    | {CLAMP, PLACE, GRAY}
)

# Activations, in the columns named ACTIVATION: computed by Emitter.store_activated and
# rare_steps.add; named in layer_steps, layers.Activation and plain.activate. Each must give 0 for
# 0: channels that only fill up a pixel stay 0.
NONE, RELU, HARD_SWISH = range(3)

NOWHERE = -1  # in place of an offset: there is no such operand

# Columns that most kinds share.
INPUT = 1  # offset of the first value that the first output pixel reads
INPUT_PIXEL = 2  # distance between the inputs of neighbouring output pixels
INPUT_ROW = 3  # distance between the inputs of output pixels one below the other
OUTPUT = 4
OUTPUT_PIXEL = 5
OUTPUT_ROW = 6
ROWS = 7  # of the output
ROW_PIXELS = 8  # output pixels in a row
# Of the output, filled up by zeros to a multiple of 16; as they are in LOAD, STORE, CLAMP, PLACE,
# MEAN_PLACES and the COPY of a Join.
CHANNELS = 9
ADDEND = 10  # offset of what is added before the activation, or NOWHERE
ADDEND_ROW = 11  # its pixels are as far apart as the output's
ACTIVATION = 12
WEIGHTS = 13

# CONVOLUTION: the inputs of an output pixel are contiguous runs, one for each row of the kernel.
# Where the rows of all images concerned follow each other without a break, the whole output is
# one row of ROW_PIXELS. The depth is cut into BLOCK_ROWS · BLOCK_COLUMNS blocks; both are
# above 1 only where there are several runs, each too long for a block.
RUNS = 14  # in each depth block
RUN_PITCH = 15  # from the start of one to the start of the next
RUN_LENGTH = 16  # of a run, or of the part of one that is in a depth block
BLOCK_ROWS = 17  # the kernel's rows (runs) are cut into so many blocks,
BLOCK_ROW_PITCH = 18  # so far apart;
BLOCK_COLUMNS = 19  # or each run, if it is long, into so many blocks, RUN_LENGTH apart
STRIP_PIXELS = 20  # about so many pixels, whole rows where they fit, make a strip
SUMS = 21  # offset of the sums that are not complete yet; how many: tiles.sums_size
# Panels of one or two widths cover the channels: first those of TILE, then those of SECOND_TILE.
TILE = 22  # place in the table of tiles, see cpu.py; the next three columns belong to it
TILE_PIXELS = 23  # MR
TILE_CHANNELS = 24  # NR
PANELS = 25  # 0 of SECOND_TILE where one width is enough
SECOND_TILE = 26
SECOND_TILE_PIXELS = 27
SECOND_TILE_CHANNELS = 28
SECOND_PANELS = 29

# DEPTHWISE: TAP_ROWS × TAP_COLUMNS taps; TILE… as above. WEIGHT_PITCH floats from one tap's
# weights to the next (0: the same weights for all, which makes a mean). INPUT_CHANNEL floats from
# one channel's inputs to the next one's (0: there is only one, and all the output's read it).
TAP_ROWS = 30
TAP_ROW_PITCH = 31
TAP_COLUMNS = 32
TAP_COLUMN_PITCH = 33
WEIGHT_PITCH = 34
INPUT_CHANNEL = 35

# RESIZE: the gray crop, widened to a square first if WIDEN is 1; WEIGHTS: scale and offset.
WIDEN = 14

# CLEAR: the border of an image, or with ROWS 0 all of it. From OUTPUT on FIRST_GAP floats, then
# ROWS times a row of ROW_PIXELS pixels, which stays, and ROW_GAP floats, then LAST_GAP floats.
FIRST_GAP = 14
ROW_GAP = 15
LAST_GAP = 16

# NORM: of GROUPS groups of GROUP_CHANNELS neighbouring channels; those that only fill up are in
# none. WEIGHTS: epsilon, a factor for each channel, an addend for each; SUMS: 3 · CHANNELS floats.
GROUPS = 14
GROUP_CHANNELS = 15

# COPY: CHANNELS floats of each pixel at INPUT, to FACTOR × FACTOR pixels of the output.
# MEAN_PLACES: of CHANNELS channels; SUMS: two floats for each, those that fill up included.
SOURCE_ROWS = 14  # of the image at INPUT
SOURCE_ROW_PIXELS = 15
FACTOR = 16

# POINT_DEPTHWISE: the output is one row of points. SOURCE_ROWS and SOURCE_ROW_PIXELS are those of
# the image; WEIGHTS: where the PLACES of the kernel are, x before y, and from WEIGHT_PITCH on a
# bias for each channel, then its weights of the first place, and so on; SUMS: (2 + 5 · PLACES)
# times POINTS_PITCH floats.
POINTS_AT = 16  # offset of the points, x before y
PLACES = 17
POINTS_PITCH = 18  # how many points there are, filled up to whole vectors

# FIT_SIMILARITY: of POINTS points at INPUT, x before y; 2 · POINTS differences go to OUTPUT, and a
# transform to TRANSFORM, see below. WEIGHTS: see packing.pack_similarity.
POINTS = 15

# CLAMP: CHANNELS numbers at OUTPUT. WEIGHTS: the least that each may be, then the largest.

# PLACE: CHANNELS / 2 points at INPUT, x before y, turned, scaled and moved to the crop's pixels;
# OUTPUT is counted from the image's results on.
TRANSFORM = 14  # offset of scale, angle in radians, x and y

# GRAY: a crop of three bytes a pixel, its rows INPUT_ROW bytes apart, to a byte a pixel, without
# gaps, where the call's results go. The gray is (Σ SHARE · byte + 2¹⁵) / 2¹⁶.
FIRST_SHARE = 14
SECOND_SHARE = 15
THIRD_SHARE = 16

# A call of the engine is one row of int64 too. Its addresses are those of the steps, of float32
# arrays, and of a table of crops, which RESIZE, PLACE and GRAY read.
CALL_COLUMNS = 11
CALL_STEPS = 0
CALL_STEP_COUNT = 1
CALL_WEIGHTS = 2
CALL_ARENA = 3
CALL_IMAGES = 4  # read by LOAD
CALL_IMAGE_COUNT = 5  # or that of the crops
CALL_IMAGE_SIZE = 6  # floats from one image to the next
CALL_OUT = 7  # written by STORE, PLACE or GRAY
CALL_OUT_SIZE = 8  # floats from the results of one image to those of the next
CALL_CROPS = 9
CALL_SCRATCH = 10  # for RESIZE: see resize_memory.py

# A crop, a row of the table: the address of its float32 or bytes, and its size.
CROP_COLUMNS = 4
CROP_ADDRESS, CROP_IS_FLOAT, CROP_HEIGHT, CROP_WIDTH = range(CROP_COLUMNS)

# An example of a CONVOLUTION, with AVX-512 (V = 16): a 3×3 kernel, 32 → 48 channels of 28×28
# pixels, padding 1. A pixel of the input is 32 floats, a row of it (28 + 1) · 32 = 928, its border
# included. The depth is 3 · 3 · 32 = 288: 3 runs of 96 floats, 928 apart. The tile is 7 pixels × 3
# vectors, so that NR = 48 and one panel has all channels: PANELS 1, SECOND_PANELS 0. The panel's
# 288 · 48 floats are more than 8192 (tiles.py), so there are three depth blocks of one run each:
# BLOCK_ROWS 3, BLOCK_ROW_PITCH 928, BLOCK_COLUMNS 1, RUNS 1, RUN_LENGTH 96. A strip is 512 // 28 =
# 18 rows, each of which is four tiles. With a 1×1 kernel, and no border around input and output,
# the same layer is one row: ROWS 1, ROW_PIXELS 784, INPUT_PIXEL 32, RUNS 1, RUN_LENGTH 32, one
# depth block, no sums that wait; the panel has (1 + 32) · 48 floats, and the strips are 512 and
# 272 pixels.
