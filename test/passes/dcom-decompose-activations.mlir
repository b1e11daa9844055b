// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=2 sites=qkv rank=4}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=2 sites=qkv rank=4}' --print-debuginfo | filecheck %s --check-prefix=LOC
// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=2 sites=qkv rank=2 iterations=6 reorthogonalisation=1 seed=9 energy=0.5}' | filecheck %s --check-prefix=OPTIONS
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=2 sites=qkv outliers=1},dcom-decompose-activations{layers=2,0 sites=qkv rank=4}' | filecheck %s --check-prefix=SPLIT

// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=2 sites=qkv rank=2 block=3},dcom-preserve-decomposed' | filecheck %s --check-prefix=BLOCK

// One decomposition serves q, k and v; its iterations are R + 5, but no more than the 8 rows of a prompt.
// CHECK-LABEL: func.func private @decoder_layer_2(
// CHECK:         %[[F:.*]] = dcom.decompose %x {layer = 2 : i64, site = "qkv", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<16x12xf32> -> !dcom.factored<2x8x12, rank 4, f32>
// CHECK:         %[[X:.*]] = dcom.reconstruct %[[F]] : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
// CHECK-NOT:     dcom.decompose
// CHECK:         linalg.matmul {dcom.role = "q_proj"} ins(%[[X]], %wq
// CHECK:         linalg.matmul {dcom.role = "k_proj"} ins(%[[X]], %wk
// CHECK:         linalg.matmul {dcom.role = "v_proj"} ins(%[[X]], %wv
// CHECK-LABEL: func.func @main
// CHECK:         func.call @decoder_layer({{.*}}dcom.layer = 1
// CHECK:         func.call @decoder_layer_2({{.*}}dcom.layer = 2

// LOC: dcom.decompose {{.*}} loc(fused["model.layers.2.self_attn.q_proj"("model.py":7:1), "model.layers.2.self_attn.k_proj"("model.py":8:1), "model.layers.2.self_attn.v_proj"("model.py":9:1)])
// LOC: dcom.reconstruct {{.*}} loc(fused["model.layers.2.self_attn.q_proj"

// OPTIONS: dcom.decompose %x {layer = 2 : i64, site = "qkv", iterations = 6 : i64, reorthogonalisation = 1 : i64, seed = 9 : i64, energy = 5.000000e-01 : f32} : tensor<16x12xf32> -> !dcom.factored<2x8x12, rank 2, f32>

// Three rows share a basis; the last block of a prompt has two. Products keep the blocks.
// BLOCK: %[[F:.*]] = dcom.decompose %x {layer = 2 : i64, site = "qkv", iterations = 3 : i64, {{.*}}} : tensor<16x12xf32> -> !dcom.factored<2x8x12, block 3, rank 2, f32>
// BLOCK: %[[V:.*]] = dcom.matmul %[[F]], %wv {{.*}} -> !dcom.factored<2x8x6, block 3, rank 2, f32>
// BLOCK: dcom.reconstruct %[[V]] {{.*}} : !dcom.factored<2x8x6, block 3, rank 2, f32> -> tensor<16x6xf32>

// What is decomposed is what the outlier split leaves.
// SPLIT-LABEL: func.func private @decoder_layer_0(
// SPLIT:         dcom.decompose %x {layer = 0
// SPLIT-LABEL: func.func private @decoder_layer_2(
// SPLIT:         %[[DENSE:.*]], %{{.*}} = dcom.outlier_split %x
// SPLIT:         dcom.decompose %[[DENSE]] {layer = 2

module attributes {dcom.model = "toy", dcom.batch = 2 : i64, dcom.seq_len = 8 : i64, dcom.layers = 3 : i64} {
  func.func private @decoder_layer(%x: tensor<16x12xf32>, %wq: tensor<12x12xf32>, %wk: tensor<12x6xf32>, %wv: tensor<12x6xf32>, %bias: tensor<16x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>) {
    %c = arith.constant 0.0 : f32
    %e0 = tensor.empty() : tensor<16x12xf32>
    %z0 = linalg.fill ins(%c : f32) outs(%e0 : tensor<16x12xf32>) -> tensor<16x12xf32>
    %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %wq : tensor<16x12xf32>, tensor<12x12xf32>) outs(%z0 : tensor<16x12xf32>) -> tensor<16x12xf32> loc("model.layers.*.self_attn.q_proj"("model.py":7:1))
    %e1 = tensor.empty() : tensor<16x12xf32>
    %biased = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%q, %bias : tensor<16x12xf32>, tensor<16x12xf32>) outs(%e1 : tensor<16x12xf32>) {
    ^bb0(%a: f32, %b: f32, %o: f32):
      %s = arith.addf %a, %b : f32
      linalg.yield %s : f32
    } -> tensor<16x12xf32>
    %e2 = tensor.empty() : tensor<16x6xf32>
    %z2 = linalg.fill ins(%c : f32) outs(%e2 : tensor<16x6xf32>) -> tensor<16x6xf32>
    %k = linalg.matmul {dcom.role = "k_proj"} ins(%x, %wk : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z2 : tensor<16x6xf32>) -> tensor<16x6xf32> loc("model.layers.*.self_attn.k_proj"("model.py":8:1))
    %v = linalg.matmul {dcom.role = "v_proj"} ins(%x, %wv : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z2 : tensor<16x6xf32>) -> tensor<16x6xf32> loc("model.layers.*.self_attn.v_proj"("model.py":9:1))
    func.return %biased, %k, %v : tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>
  }
  func.func @main(%x: tensor<16x12xf32>, %wq: tensor<12x12xf32>, %wk: tensor<12x6xf32>, %wv: tensor<12x6xf32>, %bias: tensor<16x12xf32>) -> tensor<16x12xf32> {
    %h0, %k0, %v0 = func.call @decoder_layer(%x, %wq, %wk, %wv, %bias) {dcom.layer = 0 : i64} : (tensor<16x12xf32>, tensor<12x12xf32>, tensor<12x6xf32>, tensor<12x6xf32>, tensor<16x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>)
    %h1, %k1, %v1 = func.call @decoder_layer(%h0, %wq, %wk, %wv, %bias) {dcom.layer = 1 : i64} : (tensor<16x12xf32>, tensor<12x12xf32>, tensor<12x6xf32>, tensor<12x6xf32>, tensor<16x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>)
    %h2, %k2, %v2 = func.call @decoder_layer(%h1, %wq, %wk, %wv, %bias) {dcom.layer = 2 : i64} : (tensor<16x12xf32>, tensor<12x12xf32>, tensor<12x6xf32>, tensor<12x6xf32>, tensor<16x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>)
    func.return %h2 : tensor<16x12xf32>
  }
}
