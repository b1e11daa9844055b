// RUN: %dcomc opt %s -p dcom-preserve-decomposed | filecheck %s
// RUN: %dcomc opt %s -p dcom-preserve-decomposed --print-debuginfo | filecheck %s --check-prefix=LOC

// The products stay factored, on one decomposition; the dense activation is never made.
// CHECK-LABEL: func.func @shared
// CHECK-NEXT:    %[[F:.*]] = dcom.decompose
// CHECK-NEXT:    %[[Q:.*]] = dcom.matmul %[[F]], %wq {dcom.role = "q_proj"} : !dcom.factored<2x8x12, rank 4, f32>, tensor<12x12xf32> -> !dcom.factored<2x8x12, rank 4, f32>
// CHECK-NEXT:    %[[DQ:.*]] = dcom.reconstruct %[[Q]] : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
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

// A matmul that starts from a tensor other than zero adds it; a dense use keeps the reconstruction alive.
// CHECK-LABEL: func.func @accumulates
// CHECK:         %[[A:.*]] = dcom.reconstruct %f
// CHECK:         %[[G:.*]] = dcom.matmul %f, %w
// CHECK:         %[[D:.*]] = dcom.reconstruct %[[G]]
// CHECK:         %[[SUM:.*]] = linalg.generic {{.*}} ins(%[[D]], %initial :
// CHECK:           arith.addf
// CHECK:         func.return %[[SUM]], %[[A]]
func.func @accumulates(%f: !dcom.factored<2x8x12, rank 4, f32>, %w: tensor<12x6xf32>, %initial: tensor<16x6xf32>) -> (tensor<16x6xf32>, tensor<16x12xf32>) {
  %a = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
  %y = linalg.matmul ins(%a, %w : tensor<16x12xf32>, tensor<12x6xf32>) outs(%initial : tensor<16x6xf32>) -> tensor<16x6xf32>
  func.return %y, %a : tensor<16x6xf32>, tensor<16x12xf32>
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
