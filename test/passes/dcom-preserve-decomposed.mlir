// RUN: %dcomc opt %s -p dcom-preserve-decomposed | filecheck %s
// RUN: %dcomc opt %s -p dcom-preserve-decomposed --print-debuginfo | filecheck %s --check-prefix=LOC

// The products stay factored, on one decomposition; the dense activation is never made.
// CHECK-LABEL: func.func @shared
// CHECK-NEXT:    %[[F:.*]] = dcom.decompose
// CHECK-NEXT:    %[[Q:.*]] = dcom.matmul %[[F]], %wq {dcom.role = "q_proj"} : !dcom.factored<2x8x12, rank 4, f32>, tensor<12x12xf32> -> !dcom.factored<2x8x12, rank 4, f32>
// CHECK-NEXT:    %[[DQ:.*]] = dcom.reconstruct %[[Q]] {dcom.chosen = "46.1 kflop, 58.4 kflop dense", dcom.stopped = "it leaves the function ({{.*}})", left_first} : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
// CHECK-NEXT:    %[[K:.*]] = dcom.matmul %[[F]], %wk {dcom.role = "k_proj"} : !dcom.factored<2x8x12, rank 4, f32>, tensor<12x6xf32> -> !dcom.factored<2x8x6, rank 4, f32>
// CHECK-NEXT:    %[[DK:.*]] = dcom.reconstruct %[[K]]
// CHECK-NEXT:    func.return %[[DQ]], %[[DK]]
// LOC: dcom.matmul %factors, %wq {{.*}} loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
// LOC: dcom.reconstruct {{.*}} loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
func.func @shared(%x: tensor<16x12xf32>, %wq: tensor<12x12xf32>, %wk: tensor<12x6xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>) {
  %factors = dcom.decompose %x {layer = 10 : i64, site = "qkv", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<16x12xf32> -> !dcom.factored<2x8x12, rank 4, f32>
  %a = dcom.reconstruct %factors : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
  %c = arith.constant 0.0 : f32
  %e0 = tensor.empty() : tensor<16x12xf32>
  %z0 = linalg.fill ins(%c : f32) outs(%e0 : tensor<16x12xf32>) -> tensor<16x12xf32>
  %q = linalg.matmul {dcom.role = "q_proj"} ins(%a, %wq : tensor<16x12xf32>, tensor<12x12xf32>) outs(%z0 : tensor<16x12xf32>) -> tensor<16x12xf32> loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
  %e1 = tensor.empty() : tensor<16x6xf32>
  %z1 = linalg.fill ins(%c : f32) outs(%e1 : tensor<16x6xf32>) -> tensor<16x6xf32>
  %k = linalg.matmul {dcom.role = "k_proj"} ins(%a, %wk : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z1 : tensor<16x6xf32>) -> tensor<16x6xf32>
  func.return %q, %k : tensor<16x12xf32>, tensor<16x6xf32>
}

// A matmul that starts from a tensor other than zero adds it.
// CHECK-LABEL: func.func @accumulates
// CHECK:         %[[G:.*]] = dcom.matmul %f, %w
// CHECK:         %[[D:.*]] = dcom.reconstruct %[[G]]
// CHECK:         %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[D]], %initial :
// CHECK:           arith.addf
// CHECK:         func.return %[[SUM]]
func.func @accumulates(%f: !dcom.factored<2x8x12, rank 2, f32>, %w: tensor<12x6xf32>, %initial: tensor<16x6xf32>) -> tensor<16x6xf32> {
  %a = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 2, f32> -> tensor<16x12xf32>
  %y = linalg.matmul ins(%a, %w : tensor<16x12xf32>, tensor<12x6xf32>) outs(%initial : tensor<16x6xf32>) -> tensor<16x6xf32>
  func.return %y : tensor<16x6xf32>
}

// What needs the dense tensor keeps the reconstruction alive; the other readers then have it for nothing, and read it
// where that is cheaper: half as wide a result is not at 8 rows, and a long one is.
// CHECK-LABEL: func.func @alive
// CHECK-NEXT:    %[[A:.*]] = dcom.reconstruct %f {dcom.stopped = "dense is cheaper from here, 23 kflop against {{.*}} kflop (there:4); it leaves the function ({{.*}})"}
// CHECK:         %[[N:.*]] = linalg.matmul ins(%[[A]], %narrow :
// CHECK:         func.return %[[N]], %[[A]]
// CHECK-LABEL: func.func @alive_and_factored
// CHECK-NEXT:    %[[A:.*]] = dcom.reconstruct %f {dcom.stopped = "it leaves the function ({{.*}})"}
// CHECK:         %[[G:.*]] = dcom.matmul %f, %w
// CHECK:         %[[D:.*]] = dcom.reconstruct %[[G]]
// CHECK:         func.return %[[D]], %[[A]]
func.func @alive(%f: !dcom.factored<2x8x12, rank 4, f32>, %narrow: tensor<12x6xf32>) -> (tensor<16x6xf32>, tensor<16x12xf32>) {
  %a = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<16x6xf32>
  %z = linalg.fill ins(%c : f32) outs(%e : tensor<16x6xf32>) -> tensor<16x6xf32>
  %y = linalg.matmul ins(%a, %narrow : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z : tensor<16x6xf32>) -> tensor<16x6xf32> loc("there":4:1)
  func.return %y, %a : tensor<16x6xf32>, tensor<16x12xf32>
}

func.func @alive_and_factored(%f: !dcom.factored<1x256x64, rank 4, f32>, %w: tensor<64x64xf32>) -> (tensor<256x64xf32>, tensor<256x64xf32>) {
  %a = dcom.reconstruct %f : !dcom.factored<1x256x64, rank 4, f32> -> tensor<256x64xf32>
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<256x64xf32>
  %z = linalg.fill ins(%c : f32) outs(%e : tensor<256x64xf32>) -> tensor<256x64xf32>
  %y = linalg.matmul ins(%a, %w : tensor<256x64xf32>, tensor<64x64xf32>) outs(%z : tensor<256x64xf32>) -> tensor<256x64xf32>
  func.return %y, %a : tensor<256x64xf32>, tensor<256x64xf32>
}

// A product chain stays factored to its end; an activation on the right of a matmul is needed dense.
// CHECK-LABEL: func.func @chain
// CHECK-NEXT:    %[[G:.*]] = dcom.matmul %f, %w
// CHECK-NEXT:    %[[H:.*]] = dcom.matmul %[[G]], %w
// CHECK-NEXT:    dcom.reconstruct %[[H]]
// CHECK-LABEL: func.func @right
// CHECK:         %[[A:.*]] = dcom.reconstruct %f
// CHECK:         linalg.matmul ins(%w, %[[A]] :
func.func @chain(%f: !dcom.factored<1x12x12, rank 4, f32>, %w: tensor<12x12xf32>) -> tensor<12x12xf32> {
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<12x12xf32>
  %z = linalg.fill ins(%c : f32) outs(%e : tensor<12x12xf32>) -> tensor<12x12xf32>
  %a = dcom.reconstruct %f : !dcom.factored<1x12x12, rank 4, f32> -> tensor<12x12xf32>
  %y = linalg.matmul ins(%a, %w : tensor<12x12xf32>, tensor<12x12xf32>) outs(%z : tensor<12x12xf32>) -> tensor<12x12xf32>
  %y1 = linalg.matmul ins(%y, %w : tensor<12x12xf32>, tensor<12x12xf32>) outs(%z : tensor<12x12xf32>) -> tensor<12x12xf32>
  func.return %y1 : tensor<12x12xf32>
}

func.func @right(%f: !dcom.factored<1x12x12, rank 4, f32>, %w: tensor<12x12xf32>) -> tensor<12x12xf32> {
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<12x12xf32>
  %z = linalg.fill ins(%c : f32) outs(%e : tensor<12x12xf32>) -> tensor<12x12xf32>
  %a = dcom.reconstruct %f : !dcom.factored<1x12x12, rank 4, f32> -> tensor<12x12xf32>
  %y = linalg.matmul ins(%w, %a : tensor<12x12xf32>, tensor<12x12xf32>) outs(%z : tensor<12x12xf32>) -> tensor<12x12xf32>
  func.return %y : tensor<12x12xf32>
}

// Scales of rows go into U, scales of channels into V, on either side of the product; a matrix of factors does not.
// CHECK-LABEL: func.func @scales
// CHECK-NEXT:    %[[R:.*]] = dcom.scale %f by %rows {axis = "rows"} : !dcom.factored<2x8x12, block 4, rank 3, f32>, tensor<16xf32> -> !dcom.factored<2x8x12, block 4, rank 3, f32>
// CHECK-NEXT:    %[[C:.*]] = dcom.scale %[[R]] by %channels {axis = "channels"} : {{.*}}, tensor<12xf32>
// CHECK:         %[[P:.*]] = dcom.matmul %[[C]], %w
// CHECK-NEXT:    %[[D:.*]] = dcom.reconstruct %[[P]] {dcom.chosen = "{{.*}}", dcom.stopped = "an elementwise product with another tensor (there:7)", left_first}
// CHECK:         linalg.generic {{.*}} ins(%[[D]], %gate :
#both = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>
#channel = affine_map<(d0, d1) -> (d1)>
func.func @scales(%f: !dcom.factored<2x8x12, block 4, rank 3, f32>, %rows: tensor<16xf32>, %channels: tensor<12xf32>, %w: tensor<12x6xf32>, %gate: tensor<16x6xf32>) -> tensor<16x6xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<2x8x12, block 4, rank 3, f32> -> tensor<16x12xf32>
  %e = tensor.empty() : tensor<16x12xf32>
  %y = linalg.generic {indexing_maps = [#both, #row, #both], iterator_types = ["parallel", "parallel"]} ins(%x, %rows : tensor<16x12xf32>, tensor<16xf32>) outs(%e : tensor<16x12xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    linalg.yield %p : f32
  } -> tensor<16x12xf32>
  %z = linalg.generic {indexing_maps = [#channel, #both, #both], iterator_types = ["parallel", "parallel"]} ins(%channels, %y : tensor<12xf32>, tensor<16x12xf32>) outs(%e : tensor<16x12xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    linalg.yield %p : f32
  } -> tensor<16x12xf32>
  %c = arith.constant 0.0 : f32
  %e1 = tensor.empty() : tensor<16x6xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e1 : tensor<16x6xf32>) -> tensor<16x6xf32>
  %q = linalg.matmul ins(%z, %w : tensor<16x12xf32>, tensor<12x6xf32>) outs(%zero : tensor<16x6xf32>) -> tensor<16x6xf32>
  %g = linalg.generic {indexing_maps = [#both, #both, #both], iterator_types = ["parallel", "parallel"]} ins(%q, %gate : tensor<16x6xf32>, tensor<16x6xf32>) outs(%e1 : tensor<16x6xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.mulf %a, %b : f32
    linalg.yield %p : f32
  } -> tensor<16x6xf32> loc("there":7:1)
  func.return %g : tensor<16x6xf32>
}

// Exact channels are tracks beside the others. What reads the activation through changes of shape is why it is dense.
// CHECK-LABEL: func.func @stops
// CHECK: %[[T:.*]] = dcom.exact_track %outliers, %w : !dcom.outliers<2x8x4, capacity 2, f32>, tensor<4x12xf32> -> !dcom.factored<2x8x12, rank 2, f32>
// CHECK: %[[C:.*]] = dcom.concat %f, %[[T]]
// CHECK: dcom.reconstruct %[[C]] {dcom.chosen = "{{.*}}", dcom.stopped = "math.exp is not linear (there:8); a reduction over its elements (there:9); dense is cheaper from here, {{.*}} (there:10)", left_first}
func.func @stops(%f: !dcom.factored<2x8x12, rank 3, f32>, %outliers: !dcom.outliers<2x8x4, capacity 2, f32>, %w: tensor<4x12xf32>, %bias: tensor<12xf32>) -> (tensor<2x8x12xf32>, tensor<16xf32>, tensor<16x12xf32>) {
  %x = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 3, f32> -> tensor<16x12xf32>
  %exact = dcom.outlier_matmul %outliers, %w : !dcom.outliers<2x8x4, capacity 2, f32>, tensor<4x12xf32> -> tensor<16x12xf32>
  %e = tensor.empty() : tensor<16x12xf32>
  %sum = linalg.generic {indexing_maps = [#both, #both, #both], iterator_types = ["parallel", "parallel"]} ins(%x, %exact : tensor<16x12xf32>, tensor<16x12xf32>) outs(%e : tensor<16x12xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %p = arith.addf %a, %b : f32
    linalg.yield %p : f32
  } -> tensor<16x12xf32>
  %prompts = tensor.expand_shape %sum [[0, 1], [2]] output_shape [2, 8, 12] : tensor<16x12xf32> into tensor<2x8x12xf32>
  %e3 = tensor.empty() : tensor<2x8x12xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%prompts : tensor<2x8x12xf32>) outs(%e3 : tensor<2x8x12xf32>) {
  ^bb0(%a: f32, %o: f32):
    %p = math.exp %a : f32
    linalg.yield %p : f32
  } -> tensor<2x8x12xf32> loc("there":8:1)
  %e1 = tensor.empty() : tensor<16xf32>
  %r = linalg.generic {indexing_maps = [#both, #row], iterator_types = ["parallel", "reduction"]} ins(%sum : tensor<16x12xf32>) outs(%e1 : tensor<16xf32>) {
  ^bb0(%a: f32, %o: f32):
    %p = arith.addf %a, %o : f32
    linalg.yield %p : f32
  } -> tensor<16xf32> loc("there":9:1)
  %b = linalg.generic {indexing_maps = [#both, #channel, #both], iterator_types = ["parallel", "parallel"]} ins(%sum, %bias : tensor<16x12xf32>, tensor<12xf32>) outs(%e : tensor<16x12xf32>) {
  ^bb0(%a: f32, %s: f32, %o: f32):
    %p = arith.addf %a, %s : f32
    linalg.yield %p : f32
  } -> tensor<16x12xf32> loc("there":10:1)
  func.return %y, %r, %b : tensor<2x8x12xf32>, tensor<16xf32>, tensor<16x12xf32>
}

// The sum of two factored values has the tracks of both; of three matrices after one another, the two that make a
// narrow one go first where there are many rows.
// CHECK-LABEL: func.func @sum
// CHECK:      %[[F:.*]] = dcom.matmul %f, %w
// CHECK-NEXT: %[[G:.*]] = dcom.matmul %g, %w
// CHECK-NEXT: %[[S:.*]] = dcom.concat %[[G]], %[[F]] : !dcom.factored<2x24x8, rank 3, f32>, !dcom.factored<2x24x8, rank 2, f32> -> !dcom.factored<2x24x8, rank 5, f32>
// CHECK-NEXT: dcom.reconstruct %[[S]]
// CHECK-LABEL: func.func @narrow_product_first
// CHECK:      %[[W:.*]] = linalg.matmul ins(%w1, %w2 : tensor<16x40xf32>, tensor<40x4xf32>)
// CHECK-NEXT: %[[Y:.*]] = dcom.matmul %f, %[[W]] {dcom.role = "o_proj"}
// CHECK-NEXT: dcom.reconstruct %[[Y]]
func.func @sum(%f: !dcom.factored<2x24x16, rank 2, f32>, %g: !dcom.factored<2x24x16, rank 3, f32>, %w: tensor<16x8xf32>) -> tensor<48x8xf32> {
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<48x8xf32>
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<48x8xf32>) -> tensor<48x8xf32>
  %x = dcom.reconstruct %f : !dcom.factored<2x24x16, rank 2, f32> -> tensor<48x16xf32>
  %y = dcom.reconstruct %g : !dcom.factored<2x24x16, rank 3, f32> -> tensor<48x16xf32>
  %p = linalg.matmul ins(%x, %w : tensor<48x16xf32>, tensor<16x8xf32>) outs(%zero : tensor<48x8xf32>) -> tensor<48x8xf32>
  %q = linalg.matmul ins(%y, %w : tensor<48x16xf32>, tensor<16x8xf32>) outs(%zero : tensor<48x8xf32>) -> tensor<48x8xf32>
  %s = linalg.generic {indexing_maps = [#both, #both, #both], iterator_types = ["parallel", "parallel"]} ins(%p, %q : tensor<48x8xf32>, tensor<48x8xf32>) outs(%e : tensor<48x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %t = arith.addf %a, %b : f32
    linalg.yield %t : f32
  } -> tensor<48x8xf32>
  func.return %s : tensor<48x8xf32>
}

func.func @narrow_product_first(%f: !dcom.factored<20x24x16, rank 2, f32>, %w1: tensor<16x40xf32>, %w2: tensor<40x4xf32>) -> tensor<480x4xf32> {
  %c = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<480x40xf32>
  %z = linalg.fill ins(%c : f32) outs(%e : tensor<480x40xf32>) -> tensor<480x40xf32>
  %e1 = tensor.empty() : tensor<480x4xf32>
  %z1 = linalg.fill ins(%c : f32) outs(%e1 : tensor<480x4xf32>) -> tensor<480x4xf32>
  %x = dcom.reconstruct %f : !dcom.factored<20x24x16, rank 2, f32> -> tensor<480x16xf32>
  %y = linalg.matmul ins(%x, %w1 : tensor<480x16xf32>, tensor<16x40xf32>) outs(%z : tensor<480x40xf32>) -> tensor<480x40xf32>
  %r = linalg.matmul {dcom.role = "o_proj"} ins(%y, %w2 : tensor<480x40xf32>, tensor<40x4xf32>) outs(%z1 : tensor<480x4xf32>) -> tensor<480x4xf32>
  func.return %r : tensor<480x4xf32>
}

// Conversions of the dense tensor's elements stop nothing and cost nothing: the factors keep theirs. What is counted is
// V W, 18,432 bytes at 16 operations each, and reconstruction, 140,352 bytes; dense, the product's 278,528 bytes.
// CHECK-LABEL: func.func @conversions
// CHECK-NEXT:    %[[G:.*]] = dcom.matmul %f, %w
// CHECK-NEXT:    %[[D:.*]] = dcom.reconstruct %[[G]] {dcom.chosen = "2.54 Mflop, 6.7 Mflop dense", dcom.stopped = "math.exp is not linear (there:11)"} : {{.*}} -> tensor<512x64xf32>
// CHECK:         linalg.generic {{.*}} ins(%[[D]] : tensor<512x64xf32>) outs(%{{.*}} : tensor<512x64xbf16>)
// CHECK:           arith.truncf %{{.*}} : f32 to bf16
// CHECK-NOT:       arith.extf
// CHECK:           math.exp
func.func @conversions(%f: !dcom.factored<1x512x64, rank 4, f32>, %w: tensor<64x64xf32>) -> tensor<512x64xbf16> {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x64, rank 4, f32> -> tensor<512x64xf32>
  %e = tensor.empty() : tensor<512x64xf16>
  %narrow = linalg.generic {indexing_maps = [#both, #both], iterator_types = ["parallel", "parallel"]} ins(%x : tensor<512x64xf32>) outs(%e : tensor<512x64xf16>) {
  ^bb0(%a: f32, %o: f16):
    %t = arith.truncf %a : f32 to f16
    linalg.yield %t : f16
  } -> tensor<512x64xf16>
  %e1 = tensor.empty() : tensor<512x64xf32>
  %wide = linalg.generic {indexing_maps = [#both, #both], iterator_types = ["parallel", "parallel"]} ins(%narrow : tensor<512x64xf16>) outs(%e1 : tensor<512x64xf32>) {
  ^bb0(%a: f16, %o: f32):
    %t = arith.extf %a : f16 to f32
    linalg.yield %t : f32
  } -> tensor<512x64xf32>
  %c = arith.constant 0.0 : f32
  %zero = linalg.fill ins(%c : f32) outs(%e1 : tensor<512x64xf32>) -> tensor<512x64xf32>
  %y = linalg.matmul ins(%wide, %w : tensor<512x64xf32>, tensor<64x64xf32>) outs(%zero : tensor<512x64xf32>) -> tensor<512x64xf32>
  %e2 = tensor.empty() : tensor<512x64xbf16>
  %half = linalg.generic {indexing_maps = [#both, #both], iterator_types = ["parallel", "parallel"]} ins(%y : tensor<512x64xf32>) outs(%e2 : tensor<512x64xbf16>) {
  ^bb0(%a: f32, %o: bf16):
    %t = arith.truncf %a : f32 to bf16
    linalg.yield %t : bf16
  } -> tensor<512x64xbf16>
  %z = linalg.generic {indexing_maps = [#both, #both], iterator_types = ["parallel", "parallel"]} ins(%half : tensor<512x64xbf16>) outs(%e2 : tensor<512x64xbf16>) {
  ^bb0(%a: bf16, %o: bf16):
    %t = math.exp %a : bf16
    linalg.yield %t : bf16
  } -> tensor<512x64xbf16> loc("there":11:1)
  func.return %z : tensor<512x64xbf16>
}

// A constant goes into V.
// CHECK-LABEL: func.func @constant
// CHECK:         %[[C:.*]] = linalg.fill {{.*}} -> tensor<64xf32>
// CHECK-NEXT:    %[[S:.*]] = dcom.scale %f by %[[C]] {axis = "channels"}
// CHECK-NEXT:    %[[G:.*]] = dcom.matmul %[[S]], %w
// CHECK-NEXT:    dcom.reconstruct %[[G]]
func.func @constant(%f: !dcom.factored<1x512x64, rank 4, f32>, %w: tensor<64x64xf32>) -> tensor<512x64xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x64, rank 4, f32> -> tensor<512x64xf32>
  %e = tensor.empty() : tensor<512x64xf32>
  %y = linalg.generic {indexing_maps = [#both, #both], iterator_types = ["parallel", "parallel"]} ins(%x : tensor<512x64xf32>) outs(%e : tensor<512x64xf32>) {
  ^bb0(%a: f32, %o: f32):
    %k = arith.constant 0.25 : f32
    %m = arith.mulf %a, %k : f32
    linalg.yield %m : f32
  } -> tensor<512x64xf32>
  %c = arith.constant 0.0 : f32
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<512x64xf32>) -> tensor<512x64xf32>
  %r = linalg.matmul ins(%y, %w : tensor<512x64xf32>, tensor<64x64xf32>) outs(%zero : tensor<512x64xf32>) -> tensor<512x64xf32>
  func.return %r : tensor<512x64xf32>
}

// Slices of one product: what is copied into another order is reconstructed by itself, and what a product follows stays
// in factors. A slice of rows needs the dense tensor.
// CHECK-LABEL: func.func @slices
// CHECK-NEXT:    %[[A:.*]] = dcom.slice %f {offset = 0 : i64} : !dcom.factored<1x512x192, rank 4, f32> -> !dcom.factored<1x512x128, rank 4, f32>
// CHECK-NEXT:    dcom.reconstruct %[[A]] {{.*}} : !dcom.factored<1x512x128, rank 4, f32> -> tensor<512x128xf32>
// CHECK:         %[[B:.*]] = dcom.slice %f {offset = 128 : i64} : !dcom.factored<1x512x192, rank 4, f32> -> !dcom.factored<1x512x64, rank 4, f32>
// CHECK:         %[[G:.*]] = dcom.matmul %[[B]], %w
// CHECK-NEXT:    %[[DG:.*]] = dcom.reconstruct %[[G]]
// CHECK-NEXT:    func.return %{{.*}}, %[[DG]]
// CHECK-LABEL: func.func @slice_of_rows
// CHECK-NEXT:    %[[D:.*]] = dcom.reconstruct %f
// CHECK-NEXT:    tensor.extract_slice %[[D]]
func.func @slices(%f: !dcom.factored<1x512x192, rank 4, f32>, %w: tensor<64x64xf32>) -> (tensor<512x128xf32>, tensor<512x64xf32>) {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x192, rank 4, f32> -> tensor<512x192xf32>
  %heads = tensor.expand_shape %x [[0], [1, 2]] output_shape [512, 3, 64] : tensor<512x192xf32> into tensor<512x3x64xf32>
  %a = tensor.extract_slice %heads[0, 0, 0] [512, 2, 64] [1, 1, 1] : tensor<512x3x64xf32> to tensor<512x2x64xf32>
  %b = tensor.extract_slice %heads[0, 2, 0] [512, 1, 64] [1, 1, 1] : tensor<512x3x64xf32> to tensor<512x1x64xf32>
  %both = tensor.collapse_shape %a [[0], [1, 2]] : tensor<512x2x64xf32> into tensor<512x128xf32>
  %one = tensor.collapse_shape %b [[0], [1, 2]] : tensor<512x1x64xf32> into tensor<512x64xf32>
  %e = tensor.empty() : tensor<512x64xf32>
  %c = arith.constant 0.0 : f32
  %zero = linalg.fill ins(%c : f32) outs(%e : tensor<512x64xf32>) -> tensor<512x64xf32>
  %y = linalg.matmul ins(%one, %w : tensor<512x64xf32>, tensor<64x64xf32>) outs(%zero : tensor<512x64xf32>) -> tensor<512x64xf32>
  func.return %both, %y : tensor<512x128xf32>, tensor<512x64xf32>
}

func.func @slice_of_rows(%f: !dcom.factored<1x512x192, rank 4, f32>) -> tensor<256x192xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x192, rank 4, f32> -> tensor<512x192xf32>
  %a = tensor.extract_slice %x[0, 0] [256, 192] [1, 1] : tensor<512x192xf32> to tensor<256x192xf32>
  func.return %a : tensor<256x192xf32>
}

// A slice of some channels of each head has channels that are no neighbours.
// CHECK-LABEL: func.func @slice_of_heads
// CHECK-NEXT:    %[[D:.*]] = dcom.reconstruct %f
// CHECK-NEXT:    %[[HEADS:.*]] = tensor.expand_shape %[[D]]
// CHECK-NEXT:    tensor.extract_slice %[[HEADS]]
func.func @slice_of_heads(%f: !dcom.factored<1x512x192, rank 4, f32>) -> tensor<512x2x32xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x192, rank 4, f32> -> tensor<512x192xf32>
  %heads = tensor.expand_shape %x [[0], [1, 2]] output_shape [512, 3, 64] : tensor<512x192xf32> into tensor<512x3x64xf32>
  %a = tensor.extract_slice %heads[0, 0, 0] [512, 2, 32] [1, 1, 1] : tensor<512x3x64xf32> to tensor<512x2x32xf32>
  func.return %a : tensor<512x2x32xf32>
}

// A slice of everything stays as it is.
// CHECK-LABEL: func.func @slice_of_all
// CHECK:         %[[ALL:.*]] = tensor.extract_slice %{{.*}}[0, 0] [512, 192] [1, 1]
// CHECK-NEXT:    func.return %[[ALL]]
func.func @slice_of_all(%f: !dcom.factored<1x512x192, rank 4, f32>) -> tensor<512x192xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x512x192, rank 4, f32> -> tensor<512x192xf32>
  %a = tensor.extract_slice %x[0, 0] [512, 192] [1, 1] : tensor<512x192xf32> to tensor<512x192xf32>
  func.return %a : tensor<512x192xf32>
}

// A bias needs a track more than there are rows.
// CHECK-LABEL: func.func @too_many_tracks
// CHECK-NEXT:    dcom.reconstruct %f {dcom.stopped = "with the tracks of the sum its rank 9 exceeds the 8 rows that share a basis ({{.*}})"
func.func @too_many_tracks(%f: !dcom.factored<1x8x12, rank 8, f32>, %bias: tensor<12xf32>) -> tensor<8x12xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x8x12, rank 8, f32> -> tensor<8x12xf32>
  %e = tensor.empty() : tensor<8x12xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%x, %bias : tensor<8x12xf32>, tensor<12xf32>) outs(%e : tensor<8x12xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<8x12xf32>
  func.return %y : tensor<8x12xf32>
}

// A value and the transpose of another of the same type are no sum of tracks.
// CHECK-LABEL: func.func @sum_with_transpose
// CHECK-NOT:     dcom.concat
// CHECK:         func.return
func.func @sum_with_transpose(%f: !dcom.factored<1x64x64, rank 2, f32>, %g: !dcom.factored<1x64x64, rank 2, f32>) -> tensor<64x64xf32> {
  %x = dcom.reconstruct %f : !dcom.factored<1x64x64, rank 2, f32> -> tensor<64x64xf32>
  %y = dcom.reconstruct %g : !dcom.factored<1x64x64, rank 2, f32> -> tensor<64x64xf32>
  %e = tensor.empty() : tensor<64x64xf32>
  %t = linalg.transpose ins(%y : tensor<64x64xf32>) outs(%e : tensor<64x64xf32>) permutation = [1, 0]
  %z = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%x, %t : tensor<64x64xf32>, tensor<64x64xf32>) outs(%e : tensor<64x64xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %s = arith.addf %a, %b : f32
    linalg.yield %s : f32
  } -> tensor<64x64xf32>
  func.return %z : tensor<64x64xf32>
}
