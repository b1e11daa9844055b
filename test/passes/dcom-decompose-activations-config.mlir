// RUN: %dcomc opt %s -p 'dcom-decompose-activations{layers=0 sites=qkv,o,down rank=2 block=8 config="%S/Inputs/sites.toml"}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=0 sites=qkv,o,down outliers=5 config="%S/Inputs/sites.toml"}' | filecheck %s --check-prefix=SPLIT

// The file goes over the options, the more exact place over the less exact.
// CHECK: %[[F:.*]] = dcom.decompose %x {layer = 0 : i64, site = "qkv", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 7 : i64} : tensor<16x12xf32> -> !dcom.factored<2x8x12, rank 3, f32>
// CHECK: dcom.decompose %v {layer = 0 : i64, site = "o", iterations = 4 : i64, reorthogonalisation = 2 : i64, seed = 7 : i64} : tensor<16x6xf32> -> !dcom.factored<2x8x6, block 4, rank 1, f32>
// CHECK: dcom.project %o on %[[F]] {layer = 0 : i64, site = "down"}

// The site that reuses a basis takes the tokens that are missing from it, whatever the file says of its own.
// SPLIT: dcom.outlier_split %x {layer = 0 : i64, site = "qkv", capacity = 1 : i64}
// SPLIT: %{{.*}}, %[[T:.*]] = dcom.token_split %dense {layer = 0 : i64, site = "qkv", capacity = 2 : i64}
// SPLIT: dcom.outlier_split %v{{[^ ]*}} {layer = 0 : i64, site = "o", capacity = 2 : i64}
// SPLIT: dcom.token_split %{{[^ ]*}} {layer = 0 : i64, site = "o", capacity = 2 : i64}
// SPLIT: dcom.token_split %{{[^ ]*}} like %[[T]] : {{.*}} {layer = 0 : i64, site = "down", capacity = 2 : i64}

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
