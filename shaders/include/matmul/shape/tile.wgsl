// 64 tokens x 64 columns by 128 threads.
const THREADS = 128u;
const TOKENS = 64u;
const COLUMNS = 64u;
const VECTORS = 8u;
// Threads that share a token.
const ACROSS = 16u;
// Sums of a thread by tokens, groups of four columns of each, and octets of the weight that it brings for a step.
#define SUMS 8
#define HALVES 1
#define RIGHTS 2
// The sums of a thread that are left out where there is no token for them: from the first on, from the second on.
#define FIRST 2
#define SECOND 4
