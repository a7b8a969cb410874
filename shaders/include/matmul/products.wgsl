// Products of the tokens FROM..TO of a thread with the columns that it has at hand; part of matmul/tile.wgsl. They are
// added to RUN: the sums, or what is added to these later.
#repeat i in FROM..TO
let token{i} = left_cell(token_at + {i}u * TOKENS_APART);
#repeat h in 0..HALVES
RUN{i}_{h} = add_products(RUN{i}_{h}, token{i}, column{h}0, column{h}1, column{h}2, column{h}3);
#endrepeat
#endrepeat
