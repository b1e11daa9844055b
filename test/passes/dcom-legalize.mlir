// RUN: %dcomc opt %s -p dcom-legalize | filecheck %s
// RUN: %dcomc opt %s -p dcom-legalize | filecheck %s --check-prefix=GONE
// RUN: %dcomc opt %s -p dcom-legalize --print-debuginfo | filecheck %s --check-prefix=LOC
// RUN: %dcomc opt %s -p dcom-legalize | %dcomc opt - -p dcom-legalize | filecheck %s --check-prefix=TWICE

// GONE-NOT: {{dcom\.(outlier|decompose|matmul|reconstruct)}}
// GONE-NOT: !dcom
// LOC-NOT: loc(unknown)

// CHECK-LABEL: func.func @layer
// The channel with most energy of each prompt leaves the tensor.
// CHECK:         %[[PROMPTS:.*]] = tensor.expand_shape %x {{.*}} into tensor<2x8x12xf32>
// CHECK:         %[[SCORES:.*]] = linalg.generic {{.*}}["parallel", "parallel", "reduction"]} ins(%[[PROMPTS]] : tensor<2x8x12xf32>)
// CHECK:         %[[RANKS:.*]] = linalg.generic {{.*}} ins(%[[SCORES]], %[[SCORES]] :
// CHECK:         %[[SELECTED:.*]] = linalg.generic {{.*}} ins(%[[RANKS]], %[[SCORES]] :
// CHECK:         %[[REST:.*]] = linalg.generic {{.*}} ins(%[[PROMPTS]], %[[SELECTED]] :
// CHECK:         %dense = tensor.collapse_shape %[[REST]]
// Each prompt is decomposed by itself.
// CHECK:         %[[U:.*]], %[[CORE:.*]], %[[V:.*]] = scf.for {{.*}} -> (tensor<2x8x4xf32>, tensor<2x4x4xf32>, tensor<2x4x12xf32>)
// CHECK:           %[[ONE:.*]] = tensor.extract_slice {{.*}} to tensor<8x12xf32>
// CHECK:           func.call @dcom.lanczos_8x12_rank4_iterations8_reorthogonalisation2_seed0(%[[ONE]])
// CHECK:           tensor.insert_slice {{.*}} : tensor<8x4xf32> into tensor<2x8x4xf32>
// V* = V W, then U (core V*).
// CHECK:         %[[VW:.*]] = linalg.generic {{.*}} ins(%[[V]], %w : tensor<2x4x12xf32>, tensor<12x6xf32>)
// CHECK:         %[[CV:.*]] = linalg.generic {{.*}} ins(%[[CORE]], %[[VW]] : tensor<2x4x4xf32>, tensor<2x4x6xf32>)
// CHECK:         %[[UCV:.*]] = linalg.generic {{.*}} ins(%[[U]], %[[CV]] : tensor<2x8x4xf32>, tensor<2x4x6xf32>)
// CHECK:         tensor.collapse_shape %[[UCV]]
// CHECK:         func.return
// LOC-LABEL:   func.func @layer
// LOC:           scf.for
// LOC:           } loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
func.func @layer(%x: tensor<16x12xf32>, %w: tensor<12x6xf32>) -> (tensor<16x6xf32>, tensor<16x6xf32>) {
  %dense, %outliers = dcom.outlier_split %x {layer = 10 : i64, site = "o", capacity = 1 : i64} : tensor<16x12xf32> -> tensor<16x12xf32>, !dcom.outliers<2x8x12, capacity 1, f32>
  %factors = dcom.decompose %dense {layer = 10 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<16x12xf32> -> !dcom.factored<2x8x12, rank 4, f32> loc("model.layers.10.self_attn.q_proj"("model.py":7:1))
  %product = dcom.matmul %factors, %w : !dcom.factored<2x8x12, rank 4, f32>, tensor<12x6xf32> -> !dcom.factored<2x8x6, rank 4, f32>
  %y = dcom.reconstruct %product : !dcom.factored<2x8x6, rank 4, f32> -> tensor<16x6xf32>
  %exact = dcom.outlier_matmul %outliers, %w : !dcom.outliers<2x8x12, capacity 1, f32>, tensor<12x6xf32> -> tensor<16x6xf32>
  func.return %y, %exact : tensor<16x6xf32>, tensor<16x6xf32>
}

// A second decomposition of the same shape calls the same function.
// CHECK-LABEL: func.func @half_precision
// CHECK:         arith.extf
// CHECK:         func.call @dcom.lanczos_8x12_rank4_iterations8_reorthogonalisation2_seed0(
// CHECK:         arith.truncf
func.func @half_precision(%x: tensor<16x12xf16>) -> tensor<16x12xf16> {
  %factors = dcom.decompose %x {layer = 11 : i64, site = "o", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<16x12xf16> -> !dcom.factored<2x8x12, rank 4, f16>
  %y = dcom.reconstruct %factors : !dcom.factored<2x8x12, rank 4, f16> -> tensor<16x12xf16>
  func.return %y : tensor<16x12xf16>
}

// Blocks of 3 of a prompt's 8 rows: three blocks a prompt, the last filled up with a zero row that leaves again.
// CHECK-LABEL: func.func @blocks
// CHECK:         %[[ZERO:.*]] = linalg.fill {{.*}} -> tensor<2x9x12xf32>
// CHECK:         %[[X:.*]] = tensor.expand_shape %x {{.*}} into tensor<2x8x12xf32>
// CHECK:         %[[PADDED:.*]] = tensor.insert_slice %[[X]] into %[[ZERO]][0, 0, 0] [2, 8, 12] [1, 1, 1]
// CHECK:         %[[ROWS:.*]] = tensor.collapse_shape %[[PADDED]] {{.*}} into tensor<18x12xf32>
// CHECK:         %[[BLOCKS:.*]] = tensor.expand_shape %[[ROWS]] {{.*}} into tensor<6x3x12xf32>
// CHECK:         scf.for {{.*}} -> (tensor<6x3x2xf32>, tensor<6x2x2xf32>, tensor<6x2x12xf32>)
// CHECK:           tensor.extract_slice %[[BLOCKS]]
// CHECK:           func.call @dcom.lanczos_3x12_rank2
// CHECK:         tensor.extract_slice {{.*}}[0, 0, 0] [2, 8, 12] [1, 1, 1] : tensor<2x9x12xf32> to tensor<2x8x12xf32>
func.func @blocks(%x: tensor<16x12xf32>) -> tensor<16x12xf32> {
  %factors = dcom.decompose %x {layer = 11 : i64, site = "o", iterations = 3 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<16x12xf32> -> !dcom.factored<2x8x12, block 3, rank 2, f32>
  %y = dcom.reconstruct %factors : !dcom.factored<2x8x12, block 3, rank 2, f32> -> tensor<16x12xf32>
  func.return %y : tensor<16x12xf32>
}

// CHECK-LABEL: func.func private @dcom.lanczos_8x12_rank4_iterations8_reorthogonalisation2_seed0(
// CHECK-SAME:    %a: tensor<8x12xf32>{{.*}}) -> (tensor<8x4xf32>, tensor<4x4xf32>, tensor<4x12xf32>)
// CHECK-LABEL: func.func private @dcom.lanczos_3x12_rank2
// CHECK-NOT:   func.func
// TWICE-COUNT-1: func.func private @dcom.lanczos_8x12
// TWICE-NOT:     func.func private @dcom.lanczos_8x12
