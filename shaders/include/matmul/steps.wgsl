// What a tile contracts: steps of the weight from `begin` to `weight_end`, then the ranks of a low-rank update, counted
// from `ranks` on, to `end`.
struct Steps {
    begin: u32,
    weight_end: u32,
    ranks: u32,
    end: u32,
}
