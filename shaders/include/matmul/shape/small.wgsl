// 32 tokens x 32 columns by 64 threads: four times as many workgroups as tile.wgsl makes, for small products on devices
// with many cores.
const THREADS = 64u;
const TOKENS = 32u;
const COLUMNS = 32u;
const VECTORS = 8u;
const ACROSS = 8u;
#define SUMS 4
#define HALVES 1
#define RIGHTS 2
#define FIRST 2
#define SECOND 4
