// RUN: %dcomc opt %s -p 'dcom-preserve-decomposed{balance=0.0}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-preserve-decomposed{balance=0.0}' --print-debuginfo | filecheck %s --check-prefix=LOC

#full = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d2, d3, d5)>
#v = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d5, d4)>
#mixed = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d3, d1, d2, d4)>
#all = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#last = affine_map<(d0, d1, d2) -> (d2)>

// V in factors, with a bias, cut into heads: P acts on U of each head, and the output projection on V of each.
// CHECK-LABEL: func.func @attention
// CHECK:      %[[B:.*]] = dcom.bias_track %bias : tensor<16xf32> -> !dcom.factored<2x24x16, rank 1, f32>
// CHECK-NEXT: %[[C:.*]] = dcom.concat %f, %[[B]] : {{.*}} -> !dcom.factored<2x24x16, rank 3, f32>
// CHECK:      %[[H:.*]] = dcom.split_heads %[[C]] {groups = 2 : i64, shared = 3 : i64} : !dcom.factored<2x24x16, rank 3, f32> -> !dcom.factored<12x24x8, rank 3, f32>
// CHECK-NEXT: %[[L:.*]] = dcom.left_matmul %p, %[[H]] : tensor<2x2x3x20x24xf32>, !dcom.factored<12x24x8, rank 3, f32> -> !dcom.factored<12x20x8, rank 3, f32>
// CHECK-NEXT: %[[O:.*]] = dcom.head_matmul %[[L]], %w {dcom.role = "o_proj", heads = 6 : i64} : !dcom.factored<12x20x8, rank 3, f32>, tensor<48x10xf32> -> !dcom.factored<12x20x10, rank 3, f32>
// CHECK-NEXT: %[[Y:.*]] = dcom.reconstruct_heads %[[O]] {dcom.chosen = "{{.*}}flop, {{.*}}flop dense", dcom.stopped = "it leaves the function ({{.*}})", heads = 6 : i64} : !dcom.factored<12x20x10, rank 3, f32> -> tensor<40x10xf32>
// CHECK-NEXT: func.return %[[Y]]
// LOC: dcom.left_matmul {{.*}} loc("there":5:1)
func.func @attention(%f: !dcom.factored<2x24x16, rank 2, f32>, %bias: tensor<16xf32>, %p: tensor<2x2x3x20x24xf32>, %w: tensor<48x10xf32>) -> tensor<40x10xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<2x24x16, rank 2, f32> -> tensor<48x16xf32>
  %prompts = tensor.expand_shape %x [[0, 1], [2]] output_shape [2, 24, 16] : tensor<48x16xf32> into tensor<2x24x16xf32>
  %e = tensor.empty() : tensor<2x24x16xf32>
  %biased = linalg.generic {indexing_maps = [#all, #last, #all], iterator_types = ["parallel", "parallel", "parallel"]} ins(%prompts, %bias : tensor<2x24x16xf32>, tensor<16xf32>) outs(%e : tensor<2x24x16xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<2x24x16xf32>
  %view = tensor.expand_shape %biased [[0], [1], [2, 3]] output_shape [2, 24, 2, 8] : tensor<2x24x16xf32> into tensor<2x24x2x8xf32>
  %e1 = tensor.empty() : tensor<2x2x24x8xf32>
  %heads = linalg.transpose ins(%view : tensor<2x24x2x8xf32>) outs(%e1 : tensor<2x2x24x8xf32>) permutation = [0, 2, 1, 3]
  %c = arith.constant 0.0 : f32
  %e2 = tensor.empty() : tensor<2x20x2x3x8xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e2 : tensor<2x20x2x3x8xf32>) -> tensor<2x20x2x3x8xf32>
  %mixed = linalg.generic {indexing_maps = [#full, #v, #mixed], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel", "reduction"]} ins(%p, %heads : tensor<2x2x3x20x24xf32>, tensor<2x2x24x8xf32>) outs(%zero : tensor<2x20x2x3x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<2x20x2x3x8xf32> loc("there":5:1)
  %rows = tensor.collapse_shape %mixed [[0, 1], [2, 3, 4]] : tensor<2x20x2x3x8xf32> into tensor<40x48xf32>
  %e3 = tensor.empty() : tensor<40x10xf32>
  %z3 = linalg.fill ins(%c : f32) outs(%e3 : tensor<40x10xf32>) -> tensor<40x10xf32>
  %y = linalg.matmul {dcom.role = "o_proj"} ins(%rows, %w : tensor<40x48xf32>, tensor<48x10xf32>) outs(%z3 : tensor<40x10xf32>) -> tensor<40x10xf32>
  func.return %y : tensor<40x10xf32>
}

// Heads that are read by what is not linear become dense, in the order of dimensions that they had.
// CHECK-LABEL: func.func @to_dense_heads
// CHECK:      %[[L:.*]] = dcom.left_matmul %p, %f : tensor<24x24xf32>, !dcom.factored<1x24x16, rank 2, f32> -> !dcom.factored<1x24x16, rank 2, f32>
// CHECK-NEXT: %[[D:.*]] = dcom.reconstruct %[[L]] {dcom.chosen = "{{.*}}", dcom.stopped = "math.exp is not linear ({{.*}})"}
// CHECK:      linalg.transpose ins(%[[D]]:tensor<24x16xf32>) outs(%{{.*}}:tensor<16x24xf32>) permutation = [1, 0]
#pv = affine_map<(d0, d1, d2) -> (d1, d2)>
#vt = affine_map<(d0, d1, d2) -> (d2, d0)>
#yt = affine_map<(d0, d1, d2) -> (d0, d1)>
#two = affine_map<(d0, d1) -> (d0, d1)>
func.func @to_dense_heads(%f: !dcom.factored<1x24x16, rank 2, f32>, %p: tensor<24x24xf32>) -> tensor<16x24xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, rank 2, f32> -> tensor<24x16xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<16x24xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<16x24xf32>) -> tensor<16x24xf32>
  %mixed = linalg.generic {indexing_maps = [#pv, #vt, #yt], iterator_types = ["parallel", "parallel", "reduction"]} ins(%p, %x : tensor<24x24xf32>, tensor<24x16xf32>) outs(%zero : tensor<16x24xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %b, %a : f32
    %s = arith.addf %m, %o : f32
    linalg.yield %s : f32
  } -> tensor<16x24xf32>
  %y = linalg.generic {indexing_maps = [#two, #two], iterator_types = ["parallel", "parallel"]} ins(%mixed : tensor<16x24xf32>) outs(%e : tensor<16x24xf32>) {
  ^bb0(%a: f32, %o: f32):
    %p1 = math.exp %a : f32
    linalg.yield %p1 : f32
  } -> tensor<16x24xf32>
  func.return %y : tensor<16x24xf32>
}

// V in blocks of tokens: P acts on U of each, and the result has the tracks of all. Where those are more than the
// channels, attention is cheaper dense.
// CHECK-LABEL: func.func @blocks
// CHECK:      %[[L:.*]] = dcom.left_matmul %p, %f : tensor<24x24xf32>, !dcom.factored<1x24x16, block 6, rank 1, f32> -> !dcom.factored<1x24x16, rank 4, f32>
// CHECK-NEXT: dcom.reconstruct %[[L]] {dcom.chosen = "{{.*}}", dcom.stopped = "it leaves the function ({{.*}})"
// CHECK-LABEL: func.func @many_tracks
// CHECK:      %[[X:.*]] = dcom.reconstruct %f {dcom.stopped = "dense is cheaper from here, {{.*}} against {{.*}} (there:6)"
// CHECK:      linalg.generic {{.*}} ins(%p, %[[X]] :
#vp = affine_map<(d0, d1, d2) -> (d0, d2)>
#vx = affine_map<(d0, d1, d2) -> (d2, d1)>
#vy = affine_map<(d0, d1, d2) -> (d0, d1)>
func.func @blocks(%f: !dcom.factored<1x24x16, block 6, rank 1, f32>, %p: tensor<24x24xf32>) -> tensor<24x16xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, block 6, rank 1, f32> -> tensor<24x16xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<24x16xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<24x16xf32>) -> tensor<24x16xf32>
  %y = linalg.generic {indexing_maps = [#vp, #vx, #vy], iterator_types = ["parallel", "parallel", "reduction"]} ins(%p, %x : tensor<24x24xf32>, tensor<24x16xf32>) outs(%zero : tensor<24x16xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<24x16xf32>
  func.return %y : tensor<24x16xf32>
}

func.func @many_tracks(%f: !dcom.factored<1x24x16, block 6, rank 5, f32>, %p: tensor<24x24xf32>) -> tensor<24x16xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, block 6, rank 5, f32> -> tensor<24x16xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<24x16xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<24x16xf32>) -> tensor<24x16xf32>
  %y = linalg.generic {indexing_maps = [#vp, #vx, #vy], iterator_types = ["parallel", "parallel", "reduction"]} ins(%p, %x : tensor<24x24xf32>, tensor<24x16xf32>) outs(%zero : tensor<24x16xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<24x16xf32> loc("there":6:1)
  func.return %y : tensor<24x16xf32>
}

// Factors multiply matrices of f16 and f32 alone.
// CHECK-LABEL: func.func @bfloat16
// CHECK-NEXT: dcom.reconstruct %f {dcom.stopped = "a contraction with another activation ({{.*}})"
func.func @bfloat16(%f: !dcom.factored<1x24x16, rank 2, f32>, %p: tensor<24x24xbf16>) -> tensor<16x24xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, rank 2, f32> -> tensor<24x16xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<16x24xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<16x24xf32>) -> tensor<16x24xf32>
  %y = linalg.generic {indexing_maps = [#pv, #vt, #yt], iterator_types = ["parallel", "parallel", "reduction"]} ins(%p, %x : tensor<24x24xbf16>, tensor<24x16xf32>) outs(%zero : tensor<16x24xf32>) {
  ^bb0(%a: bf16, %b: f32, %o: f32):
    %w = arith.extf %a : bf16 to f32
    %m = arith.mulf %w, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<16x24xf32>
  func.return %y : tensor<16x24xf32>
}

// Heads are counted group by group; scores that stand in another order are no matrices of theirs.
#shares = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>
#values = affine_map<(d0, d1, d2, d3, d4) -> (d1, d4, d3)>
#heads = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>
// CHECK-LABEL: func.func @groups_within_shared
// CHECK-NOT:  dcom.left_matmul
// CHECK:      func.return
func.func @groups_within_shared(%f: !dcom.factored<1x24x16, rank 2, f32>, %p: tensor<3x2x20x24xf32>) -> tensor<3x2x20x8xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, rank 2, f32> -> tensor<24x16xf32>
  %view = tensor.expand_shape %x [[0], [1, 2]] output_shape [24, 2, 8] : tensor<24x16xf32> into tensor<24x2x8xf32>
  %e1 = tensor.empty() : tensor<2x24x8xf32>
  %v = linalg.transpose ins(%view : tensor<24x2x8xf32>) outs(%e1 : tensor<2x24x8xf32>) permutation = [1, 0, 2]
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<3x2x20x8xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<3x2x20x8xf32>) -> tensor<3x2x20x8xf32>
  %y = linalg.generic {indexing_maps = [#shares, #values, #heads], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]} ins(%p, %v : tensor<3x2x20x24xf32>, tensor<2x24x8xf32>) outs(%zero : tensor<3x2x20x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<3x2x20x8xf32>
  func.return %y : tensor<3x2x20x8xf32>
}

// Two values that are cut into heads alike may be summed as tracks, which here gains nothing.
// CHECK-LABEL: func.func @sum_of_heads
// CHECK-NEXT: dcom.reconstruct %f {dcom.stopped = "dense costs no more from here, 4.64 kflop ({{.*}})"}
func.func @sum_of_heads(%f: !dcom.factored<1x24x16, rank 2, f32>, %g: !dcom.factored<1x24x16, rank 3, f32>) -> tensor<2x24x8xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, rank 2, f32> -> tensor<24x16xf32>
  %y = dcom.reconstruct %g : !dcom.factored<1x24x16, rank 3, f32> -> tensor<24x16xf32>
  %x1 = tensor.expand_shape %x [[0], [1, 2]] output_shape [24, 2, 8] : tensor<24x16xf32> into tensor<24x2x8xf32>
  %y1 = tensor.expand_shape %y [[0], [1, 2]] output_shape [24, 2, 8] : tensor<24x16xf32> into tensor<24x2x8xf32>
  %e = tensor.empty() : tensor<2x24x8xf32>
  %x2 = linalg.transpose ins(%x1 : tensor<24x2x8xf32>) outs(%e : tensor<2x24x8xf32>) permutation = [1, 0, 2]
  %y2 = linalg.transpose ins(%y1 : tensor<24x2x8xf32>) outs(%e : tensor<2x24x8xf32>) permutation = [1, 0, 2]
  %z = linalg.generic {indexing_maps = [#all, #all, #all], iterator_types = ["parallel", "parallel", "parallel"]} ins(%x2, %y2 : tensor<2x24x8xf32>, tensor<2x24x8xf32>) outs(%e : tensor<2x24x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<2x24x8xf32>
  func.return %z : tensor<2x24x8xf32>
}

// A transpose is neither rows of channels nor heads side by side.
// CHECK-LABEL: func.func @transpose_times
// CHECK-NEXT: dcom.reconstruct %f {dcom.stopped = "a matmul in another element type or shape ({{.*}})"
func.func @transpose_times(%f: !dcom.factored<1x24x16, rank 2, f32>, %w: tensor<24x10xf32>) -> tensor<16x10xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, rank 2, f32> -> tensor<24x16xf32>
  %e = tensor.empty() : tensor<16x24xf32>
  %t = linalg.transpose ins(%x : tensor<24x16xf32>) outs(%e : tensor<16x24xf32>) permutation = [1, 0]
  %c = arith.constant 0.0 : f32
  %e1 = tensor.empty() : tensor<16x10xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e1 : tensor<16x10xf32>) -> tensor<16x10xf32>
  %y = linalg.matmul ins(%t, %w : tensor<16x24xf32>, tensor<24x10xf32>) outs(%zero : tensor<16x10xf32>) -> tensor<16x10xf32>
  func.return %y : tensor<16x10xf32>
}

// The tracks of all blocks are more than the rows that P leaves.
// CHECK-LABEL: func.func @more_tracks_than_rows
// CHECK-NEXT: dcom.reconstruct %f {dcom.stopped = "the rank 20 exceeds its 8 rows ({{.*}})"
func.func @more_tracks_than_rows(%f: !dcom.factored<1x24x16, block 6, rank 5, f32>, %p: tensor<8x24xf32>) -> tensor<16x8xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x24x16, block 6, rank 5, f32> -> tensor<24x16xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<16x8xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<16x8xf32>) -> tensor<16x8xf32>
  %y = linalg.generic {indexing_maps = [#pv, #vt, #yt], iterator_types = ["parallel", "parallel", "reduction"]} ins(%p, %x : tensor<8x24xf32>, tensor<24x16xf32>) outs(%zero : tensor<16x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %m = arith.mulf %a, %b : f32
    %s = arith.addf %o, %m : f32
    linalg.yield %s : f32
  } -> tensor<16x8xf32>
  func.return %y : tensor<16x8xf32>
}
