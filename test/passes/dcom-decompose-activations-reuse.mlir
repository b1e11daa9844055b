// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=0 sites=down,qkv,o rank=2 block=4 reuse=o,down}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=0 sites=qkv,o,down exact_rows=20 reuse=down},dcom-decompose-activations{layers=0 sites=qkv,o,down rank=2 reuse=down},dcom-preserve-decomposed' | filecheck %s --check-prefix=TOKENS

// The first site is decomposed; the others, in whatever order they are given, take its basis.
// CHECK:     %[[F:.*]] = dcom.decompose %x {layer = 0 : i64, site = "qkv", {{.*}}} : tensor<16x12xf32> -> !dcom.factored<2x8x12, block 4, rank 2, f32>
// CHECK-NOT: dcom.decompose
// CHECK:     %[[O:.*]] = dcom.project %v on %[[F]] {layer = 0 : i64, site = "o"} : tensor<16x6xf32>, !dcom.factored<2x8x12, block 4, rank 2, f32> -> !dcom.factored<2x8x6, block 4, rank 2, f32>
// CHECK:     %[[X:.*]] = dcom.reconstruct %[[O]]
// CHECK:     linalg.matmul {dcom.role = "o_proj"} ins(%[[X]], %wo
// CHECK:     %[[D:.*]] = dcom.project %o on %[[F]] {layer = 0 : i64, site = "down"}

// A site that takes a basis takes the exact tokens that are missing from it; one with a basis of its own, its own.
// TOKENS:     %[[DENSE:.*]], %[[T:.*]] = dcom.token_split %x {layer = 0 : i64, site = "qkv", capacity = 2 : i64}
// TOKENS:     %[[F:.*]] = dcom.decompose %[[DENSE]]
// TOKENS:     dcom.token_split %{{[^ ]*}} {layer = 0 : i64, site = "o"
// TOKENS:     dcom.decompose {{.*}} site = "o"
// TOKENS:     %[[REST:.*]], %[[SAME:.*]] = dcom.token_split %{{.*}} like %[[T]] : !dcom.tokens<2x8x12, capacity 2, f32> {layer = 0 : i64, site = "down"
// TOKENS:     %[[P:.*]] = dcom.project %[[REST]] on %[[F]]
// TOKENS:     dcom.matmul %[[P]], %wd
// TOKENS:     dcom.exact_track %[[SAME]], %wd

module attributes {dcom.model = "toy", dcom.batch = 2 : i64, dcom.seq_len = 8 : i64, dcom.layers = 1 : i64} {
  func.func private @decoder_layer(%x: tensor<16x12xf32>, %wq: tensor<12x6xf32>, %wk: tensor<12x6xf32>, %wv: tensor<12x6xf32>, %wo: tensor<6x12xf32>, %wd: tensor<12x12xf32>) -> (tensor<16x6xf32>, tensor<16x6xf32>, tensor<16x12xf32>) {
    %c = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<16x6xf32>
    %z = linalg.fill ins(%c : f32) outs(%e : tensor<16x6xf32>) -> tensor<16x6xf32>
    %e1 = tensor.empty() : tensor<16x12xf32>
    %z1 = linalg.fill ins(%c : f32) outs(%e1 : tensor<16x12xf32>) -> tensor<16x12xf32>
    %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %wq : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z : tensor<16x6xf32>) -> tensor<16x6xf32>
    %k = linalg.matmul {dcom.role = "k_proj"} ins(%x, %wk : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z : tensor<16x6xf32>) -> tensor<16x6xf32>
    %v = linalg.matmul {dcom.role = "v_proj"} ins(%x, %wv : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z : tensor<16x6xf32>) -> tensor<16x6xf32>
    %o = linalg.matmul {dcom.role = "o_proj"} ins(%v, %wo : tensor<16x6xf32>, tensor<6x12xf32>) outs(%z1 : tensor<16x12xf32>) -> tensor<16x12xf32>
    %d = linalg.matmul {dcom.role = "down_proj"} ins(%o, %wd : tensor<16x12xf32>, tensor<12x12xf32>) outs(%z1 : tensor<16x12xf32>) -> tensor<16x12xf32>
    func.return %q, %k, %d : tensor<16x6xf32>, tensor<16x6xf32>, tensor<16x12xf32>
  }
  func.func @main(%x: tensor<16x12xf32>, %wq: tensor<12x6xf32>, %wk: tensor<12x6xf32>, %wv: tensor<12x6xf32>, %wo: tensor<6x12xf32>, %wd: tensor<12x12xf32>) -> (tensor<16x6xf32>, tensor<16x6xf32>, tensor<16x12xf32>) {
    %q, %k, %d = func.call @decoder_layer(%x, %wq, %wk, %wv, %wo, %wd) {dcom.layer = 0 : i64} : (tensor<16x12xf32>, tensor<12x6xf32>, tensor<12x6xf32>, tensor<12x6xf32>, tensor<6x12xf32>, tensor<12x12xf32>) -> (tensor<16x6xf32>, tensor<16x6xf32>, tensor<16x12xf32>)
    func.return %q, %k, %d : tensor<16x6xf32>, tensor<16x6xf32>, tensor<16x12xf32>
  }
}
