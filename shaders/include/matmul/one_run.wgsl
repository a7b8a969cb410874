// Products that are added to the sums at once.
#define RUNS 1
#define RUN sum
