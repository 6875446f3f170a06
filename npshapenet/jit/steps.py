"""The table of steps: what the plan writes and the compiled engine reads.

A step is one row of int64. Column 0 is its kind; what the other columns mean depends on the
kind. Offsets and distances are counted in floats, from the start of the arena or of the
packed weights. A *pixel* is one position of a channels-last image, with all its channels.
"""

from __future__ import annotations

COLUMNS = 40
KIND = 0

# Kinds of steps.
LOAD, RESIZE, CLEAR_BORDER, CONVOLUTION, DEPTHWISE, ADD, NORM, STORE = range(8)

# Activations, in the columns named ACTIVATION.
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
CHANNELS = 9  # of the output, with those that only fill up
ADDEND = 10  # offset of what is added before the activation, or NOWHERE
ADDEND_ROW = 11  # its pixels are as far apart as the output's
ACTIVATION = 12
WEIGHTS = 13

# CONVOLUTION: for each output pixel, RUNS contiguous runs of RUN_LENGTH inputs, RUN_PITCH
# apart. Where the rows of all images concerned follow each other without a break, the whole
# output is one row of ROW_PIXELS.
RUNS = 14
RUN_PITCH = 15
RUN_LENGTH = 16
# Depth blocks: the sum over a pixel's inputs is made in BLOCK_ROWS · BLOCK_COLUMNS parts, RUNS
# and RUN_LENGTH are those of a part.
BLOCK_ROWS = 17
BLOCK_ROW_PITCH = 18
BLOCK_COLUMNS = 19
GROUP_PIXELS = 20  # so many pixels go through all panels before the next ones
SUMS = 21  # offset of GROUP_PIXELS · NR floats for sums that are not complete yet
# Panels of two widths cover the channels: first those of TILE, then those of LAST_TILE.
TILE = 22  # place in the table of tiles, see cpu.py; the next three columns belong to it
TILE_PIXELS = 23
TILE_CHANNELS = 24
PANELS = 25
LAST_TILE = 26
LAST_TILE_PIXELS = 27
LAST_TILE_CHANNELS = 28
LAST_PANELS = 29

# DEPTHWISE: TAP_ROWS × TAP_COLUMNS taps; TILE… as above. WEIGHT_PITCH floats from one tap's
# weights to the next (0: one weight for all, which makes a mean).
TAP_ROWS = 30
TAP_ROW_PITCH = 31
TAP_COLUMNS = 32
TAP_COLUMN_PITCH = 33
WEIGHT_PITCH = 34

# RESIZE: the gray crop, widened to a square first if WIDEN is 1; WEIGHTS: scale and offset.
WIDEN = 14

# CLEAR_BORDER: of a buffer whose first float is at OUTPUT: FIRST_GAP floats, then ROWS times
# a row of ROW_PIXELS pixels and ROW_GAP floats, then LAST_GAP floats.
FIRST_GAP = 14
ROW_GAP = 15
LAST_GAP = 16

# NORM: of GROUPS groups of GROUP_CHANNELS neighbouring channels; those that only fill up are in
# none. WEIGHTS: epsilon, a factor for each channel, an addend for each; SUMS: 3 · CHANNELS floats.
GROUPS = 14
GROUP_CHANNELS = 15
