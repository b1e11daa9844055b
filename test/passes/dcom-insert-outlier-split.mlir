// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers=20}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers=20}' --print-debuginfo | filecheck %s --check-prefix=LOC
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=0,1,2 sites=qkv outliers=20}' | filecheck %s --check-prefix=ALL
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers=0}' | filecheck %s --check-prefix=NONE
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers="%S/Inputs/thresholds.toml"}' | filecheck %s --check-prefix=TABLE
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers=20 exact_rows=30}' | filecheck %s --check-prefix=ROWS
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=1 sites=qkv exact_rows=1}' | filecheck %s --check-prefix=ONLY-ROWS
// RUN: sed 's/12x/100x/g' %s | %dcomc opt - -p 'dcom-insert-outlier-split{layers=1 sites=qkv outliers=7}' | filecheck %s --check-prefix=EXACT

// Tokens leave what the channels have left; both products are added.
// ROWS-LABEL: func.func private @decoder_layer_1(
// ROWS:         %[[REST:.*]], %[[OUT:.*]] = dcom.outlier_split %x
// ROWS:         %[[DENSE:.*]], %[[TOKENS:.*]] = dcom.token_split %[[REST]] {layer = 1 : i64, site = "qkv", capacity = 3 : i64} : tensor<16x12xf32> -> tensor<16x12xf32>, !dcom.tokens<2x8x12, capacity 3, f32>
// ROWS:         %[[Q:.*]] = linalg.matmul {dcom.role = "q_proj"} ins(%[[DENSE]], %wq
// ROWS:         %[[QT:.*]] = dcom.token_matmul %[[TOKENS]], %wq
// ROWS:         %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[Q]], %[[QT]] :
// ROWS:         %[[QO:.*]] = dcom.outlier_matmul %[[OUT]], %wq
// ROWS:         %[[BOTH:.*]] = linalg.generic {{.*}} ins(%[[SUM]], %[[QO]] :
// ROWS:         linalg.generic {{.*}} ins(%[[BOTH]], %bias :
// ONLY-ROWS-NOT: dcom.outlier_split
// ONLY-ROWS:     dcom.token_split %x {layer = 1 : i64, site = "qkv", capacity = 1 : i64}

// The layers that are not chosen keep their function.
// CHECK-LABEL: func.func private @decoder_layer(
// CHECK-NOT:   dcom.outlier
// CHECK-LABEL: func.func private @decoder_layer_1(
// CHECK:         %[[DENSE:.*]], %[[OUT:.*]] = dcom.outlier_split %x {layer = 1 : i64, site = "qkv", capacity = 3 : i64} : tensor<16x12xf32> -> tensor<16x12xf32>, !dcom.outliers<2x8x12, capacity 3, f32>
// CHECK:         %[[Q:.*]] = linalg.matmul {dcom.role = "q_proj"} ins(%[[DENSE]], %wq
// CHECK:         %[[QO:.*]] = dcom.outlier_matmul %[[OUT]], %wq
// CHECK:         %[[QSUM:.*]] = linalg.generic {{.*}} ins(%[[Q]], %[[QO]] :
// CHECK:           arith.addf
// CHECK:         linalg.generic {{.*}} ins(%[[QSUM]], %bias :
// CHECK-NOT:     dcom.outlier_split
// CHECK:         linalg.matmul {dcom.role = "k_proj"} ins(%[[DENSE]], %wk
// CHECK:         dcom.outlier_matmul %[[OUT]], %wk
// CHECK:         linalg.matmul {dcom.role = "v_proj"} ins(%[[DENSE]], %wv
// CHECK:         dcom.outlier_matmul %[[OUT]], %wv
// CHECK-LABEL: func.func @main
// CHECK:         func.call @decoder_layer({{.*}}dcom.layer = 0
// CHECK:         func.call @decoder_layer_1({{.*}}dcom.layer = 1
// CHECK:         func.call @decoder_layer({{.*}}dcom.layer = 2

// LOC:      dcom.outlier_split {{.*}} loc(fused["model.layers.1.self_attn.q_proj"("model.py":7:1), "model.layers.1.self_attn.k_proj"("model.py":8:1), "model.layers.1.self_attn.v_proj"("model.py":9:1)])
// LOC:      dcom.outlier_matmul %outliers, %wq {{.*}} loc("model.layers.1.self_attn.q_proj"("model.py":7:1))

// The function that no layer calls any more is gone.
// ALL-NOT:     @decoder_layer(
// ALL:         func.func private @decoder_layer_0(
// ALL:         func.func private @decoder_layer_1(
// ALL:         func.func private @decoder_layer_2(
// ALL-LABEL:   func.func @main

// NONE-NOT:    dcom.outlier
// NONE:        func.call @decoder_layer({{.*}}dcom.layer = 1

// 7 percent of 100 channels, of which 7 / 100 * 100 in floating-point numbers is a little more.
// EXACT:       dcom.outlier_split %x {layer = 1 : i64, site = "qkv", capacity = 7 : i64}

// 40 percent of 12 channels, rounded up; 3 tokens of 8 are 30 percent.
// TABLE:       dcom.outlier_split %x {layer = 1 : i64, site = "qkv", capacity = 5 : i64, threshold = 2.500000e+00 : f32, min_count = 3 : i64}

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
