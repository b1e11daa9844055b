// RUN: %dcomc opt %s -p canonicalize | filecheck %s
// RUN: %dcomc opt %s -p canonicalize,cse --print-debuginfo | filecheck %s --check-prefix=LOC

// CHECK-LABEL: func.func @scale_by_ones
func.func @scale_by_ones(%f: !dcom.factored<2x16x64, rank 4, f16>) -> tensor<32x64xf16> {
  %ones = arith.constant dense<1.0> : tensor<32xf16>
  %one = arith.constant 1.0 : f16
  %empty = tensor.empty() : tensor<64xf16>
  %filled = linalg.fill ins(%one : f16) outs(%empty : tensor<64xf16>) -> tensor<64xf16>
  %r = dcom.scale %f by %ones {axis = "rows"} : !dcom.factored<2x16x64, rank 4, f16>, tensor<32xf16> -> !dcom.factored<2x16x64, rank 4, f16>
  %c = dcom.scale %r by %filled {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f16>, tensor<64xf16> -> !dcom.factored<2x16x64, rank 4, f16>
  // CHECK-NOT: dcom.scale
  // CHECK: %[[X:.*]] = dcom.reconstruct %f
  // CHECK-NEXT: func.return %[[X]]
  %x = dcom.reconstruct %c : !dcom.factored<2x16x64, rank 4, f16> -> tensor<32x64xf16>
  func.return %x : tensor<32x64xf16>
}

// CHECK-LABEL: func.func @scale_by_others
func.func @scale_by_others(%f: !dcom.factored<2x16x4, rank 4, f32>) -> !dcom.factored<2x16x4, rank 4, f32> {
  %halves = arith.constant dense<0.5> : tensor<32xf32>
  %mixed = arith.constant dense<[1.0, 2.0, 1.0, 1.0]> : tensor<4xf32>
  // CHECK: %[[R:.*]] = dcom.scale %f by %halves
  %r = dcom.scale %f by %halves {axis = "rows"} : !dcom.factored<2x16x4, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x4, rank 4, f32>
  // CHECK: dcom.scale %[[R]] by %mixed
  %c = dcom.scale %r by %mixed {axis = "channels"} : !dcom.factored<2x16x4, rank 4, f32>, tensor<4xf32> -> !dcom.factored<2x16x4, rank 4, f32>
  func.return %c : !dcom.factored<2x16x4, rank 4, f32>
}

// All channels are no slice; scalings of rows stand before slices.
// CHECK-LABEL: func.func @slices
func.func @slices(%f: !dcom.factored<2x16x64, rank 4, f32>, %r: tensor<32xf32>) -> !dcom.factored<2x16x24, rank 4, f32> {
  // CHECK-NEXT: %[[R:.*]] = dcom.scale %f by %r
  // CHECK-NEXT: %[[S:.*]] = dcom.slice %[[R]] {offset = 8 : i64}
  // CHECK-NEXT: func.return %[[S]]
  %all = dcom.slice %f {offset = 0 : i64} : !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x64, rank 4, f32>
  %s = dcom.slice %all {offset = 8 : i64} : !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x24, rank 4, f32>
  %y = dcom.scale %s by %r {axis = "rows"} : !dcom.factored<2x16x24, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return %y : !dcom.factored<2x16x24, rank 4, f32>
}

// Two scalings have other bits than one by their product.
// CHECK-LABEL: func.func @scale_twice
func.func @scale_twice(%f: !dcom.factored<2x16x64, rank 4, f32>, %a: tensor<64xf32>, %b: tensor<64xf32>) -> !dcom.factored<2x16x64, rank 4, f32> {
  // CHECK-NEXT: %[[A:.*]] = dcom.scale %f by %a
  %g = dcom.scale %f by %a {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  // CHECK-NEXT: dcom.scale %[[A]] by %b
  %h = dcom.scale %g by %b {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  func.return %h : !dcom.factored<2x16x64, rank 4, f32>
}

// One scaling of the rows is left of two.
// CHECK-LABEL: func.func @row_scales_first
// LOC-LABEL: func.func @row_scales_first
func.func @row_scales_first(%f: !dcom.factored<2x16x64, rank 4, f32>, %r: tensor<32xf32>, %c: tensor<64xf32>, %w: tensor<64x24xf32>) -> (!dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 4, f32>) {
  // CHECK-NEXT: %[[R:.*]] = dcom.scale %f by %r {axis = "rows"}
  // CHECK-NEXT: %[[Q:.*]] = dcom.matmul %[[R]], %w {dcom.role = "q_proj"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  // LOC-NEXT: %[[R:.*]] = dcom.scale %f by %r {{.*}} loc("q_scale"("model.py":8:1))
  // LOC-NEXT: %[[Q:.*]] = dcom.matmul %[[R]], %w {{.*}} loc("q_proj"("model.py":7:1))
  %0 = dcom.matmul %f, %w {dcom.role = "q_proj"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32> loc("q_proj"("model.py":7:1))
  %q = dcom.scale %0 by %r {axis = "rows"} : !dcom.factored<2x16x24, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x24, rank 4, f32> loc("q_scale"("model.py":8:1))
  // CHECK-NEXT: %[[R2:.*]] = dcom.scale %f by %r {axis = "rows"}
  // CHECK-NEXT: %[[C:.*]] = dcom.scale %[[R2]] by %c {axis = "channels"}
  // CHECK-NEXT: %[[K:.*]] = dcom.matmul %[[C]], %w
  // LOC-NEXT: %[[C:.*]] = dcom.scale %[[R]] by %c {{.*}} loc("k_norm"("model.py":9:1))
  // LOC-NEXT: %[[K:.*]] = dcom.matmul %[[C]], %w {{.*}} loc("k_proj"("model.py":10:1))
  %1 = dcom.scale %f by %c {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32> loc("k_norm"("model.py":9:1))
  %2 = dcom.matmul %1, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32> loc("k_proj"("model.py":10:1))
  %k = dcom.scale %2 by %r {axis = "rows"} : !dcom.factored<2x16x24, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x24, rank 4, f32> loc("k_scale"("model.py":11:1))
  // CHECK-NEXT: func.return %[[Q]], %[[K]]
  // LOC-NEXT: func.return %[[Q]], %[[K]]
  func.return %q, %k : !dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 4, f32>
}

// CHECK-LABEL: func.func @row_scales_of_heads
func.func @row_scales_of_heads(%f: !dcom.factored<4x16x32, rank 4, f32>, %r: tensor<64xf32>, %w: tensor<64x24xf32>) -> !dcom.factored<4x16x24, rank 4, f32> {
  // CHECK-NEXT: %[[R:.*]] = dcom.scale %f by %r {axis = "rows"} : !dcom.factored<4x16x32, rank 4, f32>
  // CHECK-NEXT: dcom.head_matmul %[[R]], %w {heads = 2 : i64} : !dcom.factored<4x16x32, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<4x16x24, rank 4, f32>
  %h = dcom.head_matmul %f, %w {heads = 2 : i64} : !dcom.factored<4x16x32, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<4x16x24, rank 4, f32>
  %s = dcom.scale %h by %r {axis = "rows"} : !dcom.factored<4x16x24, rank 4, f32>, tensor<64xf32> -> !dcom.factored<4x16x24, rank 4, f32>
  func.return %s : !dcom.factored<4x16x24, rank 4, f32>
}

// A matmul that something else reads as well would be done twice.
// CHECK-LABEL: func.func @row_scales_of_one_reader
func.func @row_scales_of_one_reader(%f: !dcom.factored<2x16x64, rank 4, f32>, %r: tensor<32xf32>, %w: tensor<64x24xf32>) -> (!dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 4, f32>) {
  // CHECK-NEXT: %[[G:.*]] = dcom.matmul %f, %w
  // CHECK-NEXT: dcom.scale %[[G]] by %r
  %g = dcom.matmul %f, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  %h = dcom.scale %g by %r {axis = "rows"} : !dcom.factored<2x16x24, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  func.return %g, %h : !dcom.factored<2x16x24, rank 4, f32>, !dcom.factored<2x16x24, rank 4, f32>
}

// Each basis is that of %f; what made the others is dead.
// CHECK-LABEL: func.func @basis_where_it_was_made
func.func @basis_where_it_was_made(%f: !dcom.factored<2x16x64, rank 4, f32>, %c: tensor<64xf32>, %w: tensor<64x24xf32>, %x: tensor<32x8xf32>, %y: tensor<32x8xf32>) -> !dcom.factored<2x16x8, rank 4, f32> {
  // CHECK-NEXT: %[[H:.*]] = dcom.project %y on %f {layer = 3 : i64, site = "down"} : tensor<32x8xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  // CHECK-NEXT: func.return %[[H]]
  %0 = dcom.scale %f by %c {axis = "channels"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  %1 = dcom.matmul %0, %w : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  %g = dcom.project %x on %1 {layer = 3 : i64, site = "gate_up"} : tensor<32x8xf32>, !dcom.factored<2x16x24, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  %h = dcom.project %y on %g {layer = 3 : i64, site = "down"} : tensor<32x8xf32>, !dcom.factored<2x16x8, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return %h : !dcom.factored<2x16x8, rank 4, f32>
}

// Scaling of rows changes U.
// CHECK-LABEL: func.func @another_basis
func.func @another_basis(%f: !dcom.factored<2x16x64, rank 4, f32>, %r: tensor<32xf32>, %y: tensor<32x8xf32>) -> !dcom.factored<2x16x8, rank 4, f32> {
  // CHECK-NEXT: %[[G:.*]] = dcom.scale %f by %r
  %g = dcom.scale %f by %r {axis = "rows"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<32xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  // CHECK-NEXT: dcom.project %y on %[[G]]
  %h = dcom.project %y on %g {layer = 3 : i64, site = "down"} : tensor<32x8xf32>, !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x8, rank 4, f32>
  func.return %h : !dcom.factored<2x16x8, rank 4, f32>
}

// CHECK-LABEL: func.func @no_outliers
// LOC-LABEL: func.func @no_outliers
func.func @no_outliers(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>) -> (tensor<32x64xf32>, tensor<32x24xf32>) {
  // CHECK-NEXT: %[[ZERO:.*]] = arith.constant 0.{{0+}}e+00 : f32
  // CHECK-NEXT: %[[EMPTY:.*]] = tensor.empty() : tensor<32x24xf32>
  // CHECK-NEXT: %[[Y:.*]] = linalg.fill ins(%[[ZERO]] : f32) outs(%[[EMPTY]] : tensor<32x24xf32>) -> tensor<32x24xf32>
  // CHECK-NEXT: func.return %x, %[[Y]]
  // LOC: linalg.fill {{.*}} loc("v_proj"("model.py":12:1))
  %dense, %out = dcom.outlier_split %x {layer = 10 : i64, site = "qkv", capacity = 3 : i64, threshold = 0x7F800000 : f32, min_count = 1 : i64}
    : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  %y = dcom.outlier_matmul %out, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x24xf32> loc("v_proj"("model.py":12:1))
  func.return %dense, %y : tensor<32x64xf32>, tensor<32x24xf32>
}

// Tracks that nothing reads go, and the decomposition of what is left with them.
// CHECK-LABEL: func.func @dead_tracks
func.func @dead_tracks(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>) -> tensor<32x64xf32> {
  // CHECK-NEXT: %[[DENSE:.*]], %{{.*}} = dcom.outlier_split %x
  // CHECK-NEXT: func.return %[[DENSE]]
  %dense, %out = dcom.outlier_split %x {layer = 10 : i64, site = "qkv", capacity = 3 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.outliers<2x16x64, capacity 3, f32>
  %y = dcom.outlier_matmul %out, %w : !dcom.outliers<2x16x64, capacity 3, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  %rest, %tokens = dcom.token_split %dense {layer = 10 : i64, site = "qkv", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  %z = dcom.token_matmul %tokens, %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  %f = dcom.decompose %rest {layer = 10 : i64, site = "qkv", iterations = 8 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64} : tensor<32x64xf32> -> !dcom.factored<2x16x64, rank 4, f32>
  %a = dcom.reconstruct %f : !dcom.factored<2x16x64, rank 4, f32> -> tensor<32x64xf32>
  func.return %dense : tensor<32x64xf32>
}

// One head is a prompt.
// CHECK-LABEL: func.func @one_head
// LOC-LABEL: func.func @one_head
func.func @one_head(%f: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<64x24xf32>) -> tensor<32x24xf32> {
  %g = dcom.split_heads %f {groups = 1 : i64, shared = 1 : i64} : !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<2x16x64, rank 4, f32>
  // CHECK-NEXT: %[[H:.*]] = dcom.matmul %f, %w {dcom.role = "o_proj"} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32>
  // CHECK-NEXT: %[[Y:.*]] = dcom.reconstruct %[[H]] : !dcom.factored<2x16x24, rank 4, f32> -> tensor<32x24xf32>
  // LOC-NEXT: dcom.matmul {{.*}} loc("o_proj"("model.py":13:1))
  // LOC-NEXT: dcom.reconstruct {{.*}} loc("sum"("model.py":14:1))
  %h = dcom.head_matmul %g, %w {dcom.role = "o_proj", heads = 1 : i64} : !dcom.factored<2x16x64, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<2x16x24, rank 4, f32> loc("o_proj"("model.py":13:1))
  %y = dcom.reconstruct_heads %h {heads = 1 : i64} : !dcom.factored<2x16x24, rank 4, f32> -> tensor<32x24xf32> loc("sum"("model.py":14:1))
  // CHECK-NEXT: func.return %[[Y]]
  func.return %y : tensor<32x24xf32>
}

// CHECK-LABEL: func.func @two_heads
func.func @two_heads(%f: !dcom.factored<2x16x64, rank 4, f32>, %w: tensor<64x24xf32>) -> tensor<32x24xf32> {
  // CHECK-NEXT: %[[G:.*]] = dcom.split_heads %f
  // CHECK-NEXT: %[[H:.*]] = dcom.head_matmul %[[G]], %w
  // CHECK-NEXT: dcom.reconstruct_heads %[[H]]
  %g = dcom.split_heads %f {groups = 2 : i64, shared = 1 : i64} : !dcom.factored<2x16x64, rank 4, f32> -> !dcom.factored<4x16x32, rank 4, f32>
  %h = dcom.head_matmul %g, %w {heads = 2 : i64} : !dcom.factored<4x16x32, rank 4, f32>, tensor<64x24xf32> -> !dcom.factored<4x16x24, rank 4, f32>
  %y = dcom.reconstruct_heads %h {heads = 2 : i64} : !dcom.factored<4x16x24, rank 4, f32> -> tensor<32x24xf32>
  func.return %y : tensor<32x24xf32>
}

// CHECK-LABEL: func.func @same_tokens
func.func @same_tokens(%x: tensor<32x64xf32>, %w: tensor<64x24xf32>) -> (tensor<32x64xf32>, tensor<32x64xf32>, tensor<32x24xf32>) {
  // CHECK-NEXT: %[[DENSE:.*]], %[[TOKENS:.*]] = dcom.token_split %x {
  %dense, %tokens = dcom.token_split %x {layer = 10 : i64, site = "gate_up", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  %rest, %same = dcom.token_split %x like %tokens : !dcom.tokens<2x16x64, capacity 2, f32> {layer = 10 : i64, site = "down", capacity = 2 : i64} : tensor<32x64xf32> -> tensor<32x64xf32>, !dcom.tokens<2x16x64, capacity 2, f32>
  // CHECK-NEXT: %[[Y:.*]] = dcom.token_matmul %[[TOKENS]], %w
  %y = dcom.token_matmul %same, %w : !dcom.tokens<2x16x64, capacity 2, f32>, tensor<64x24xf32> -> tensor<32x24xf32>
  // CHECK-NEXT: func.return %[[DENSE]], %[[DENSE]], %[[Y]]
  func.return %dense, %rest, %y : tensor<32x64xf32>, tensor<32x64xf32>, tensor<32x24xf32>
}
