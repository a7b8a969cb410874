// Matrices of 16 x 16: tiles of 128 tokens, two subgroups across.
#define MATRIX coop_mat16x16
const SIDE = 16u;
const TOKENS = 128u;
const ACROSS = 2u;
