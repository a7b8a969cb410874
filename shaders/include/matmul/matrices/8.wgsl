// Matrices of 8 x 8: tiles of 32 tokens, four subgroups across.
#define MATRIX coop_mat8x8
const SIDE = 8u;
const TOKENS = 32u;
const ACROSS = 4u;
