// 128 tokens x 64 columns by 128 threads: 16 cells from workgroup memory feed 256 products, where tile.wgsl's 12 feed
// 128. For devices with registers to spare and many tokens.
const THREADS = 128u;
const TOKENS = 128u;
const COLUMNS = 64u;
const VECTORS = 4u;
const ACROSS = 8u;
#define SUMS 8
#define HALVES 2
#define RIGHTS 1
#define FIRST 4
#define SECOND 8
