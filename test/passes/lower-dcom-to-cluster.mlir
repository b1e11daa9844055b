// RUN: %dcomc opt %s -p lower-dcom-to-cluster | filecheck %s
// RUN: %dcomc opt %s -p lower-dcom-to-cluster --print-debuginfo | filecheck %s --check-prefix=LOC
// RUN: %dcomc opt %s -p lower-dcom-to-cluster,lower-dcom-to-cluster | filecheck %s --check-prefix=ONCE

// Equal shapes and options share a kernel, whatever the batch and the rank; a seed or a number of passes makes another.

// CHECK-LABEL: func.func @four
func.func @four(%x: tensor<80x36xf32>, %y: tensor<40x36xf32>) {
  // CHECK: dcom.decompose %x {{.*}}, seed = 0 : i64, kernel = @lanczos_40x36_k6_r2_s0}
  %f = dcom.decompose %x {layer = 3 : i64, site = "qkv", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}
    : tensor<80x36xf32> -> !dcom.factored<2x40x36, rank 4, f32> loc("model.layers.3.self_attn"("llama.py":10:1))
  // CHECK: dcom.decompose %y {{.*}}, kernel = @lanczos_40x36_k6_r2_s0}
  %g = dcom.decompose %y {layer = 7 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64}
    : tensor<40x36xf32> -> !dcom.factored<1x40x36, rank 5, f32> loc("model.layers.7.self_attn"("llama.py":20:1))
  // CHECK: dcom.decompose %y {{.*}}, kernel = @lanczos_40x36_k6_r1_s5}
  %h = dcom.decompose %y {layer = 7 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 1 : i64, seed = 5 : i64}
    : tensor<40x36xf32> -> !dcom.factored<1x40x36, rank 5, f32> loc("model.layers.7.self_attn"("llama.py":20:1))
  // CHECK: dcom.decompose %y {{.*}}, kernel = @mine}
  %i = dcom.decompose %y {layer = 8 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 1 : i64, seed = 5 : i64, kernel = @mine}
    : tensor<40x36xf32> -> !dcom.factored<1x40x36, rank 5, f32>
  func.return
}

// CHECK-LABEL: cluster.kernel @lanczos_40x36_k6_r2_s0 attributes {seed = 0 : i64} {
// CHECK-NEXT: %[[A:.*]] = cluster.matrix : !cluster.matrix<40x36>
// CHECK-NEXT: %[[U:.*]] = cluster.alloc : !cluster.basis<7x40, rows>
// CHECK-NEXT: %[[V:.*]] = cluster.alloc : !cluster.basis<6x36, cols>
// CHECK-NEXT: %[[Y:.*]] = cluster.alloc : !cluster.vector<40, rows>
// CHECK-NEXT: %[[Z:.*]] = cluster.alloc : !cluster.vector<36, cols>
// CHECK-NEXT: %[[DOTS:.*]] = cluster.alloc : !cluster.cells<6>
// CHECK-NEXT: %[[ALPHA:.*]] = cluster.alloc : !cluster.cells<6>
// CHECK-NEXT: %[[BETA:.*]] = cluster.alloc : !cluster.cells<6>
// CHECK-NEXT: %[[NORM:.*]] = cluster.alloc : !cluster.cells<1>
// CHECK-NEXT: %[[LARGEST:.*]] = cluster.alloc : !cluster.cells<1>
// CHECK-NEXT: cluster.zero %[[LARGEST]]
// The square of the tolerance 2^-10, for squares of norms are compared.
// CHECK-NEXT: %[[TOLERANCE:.*]] = cluster.constant 9.53674316e-07
// CHECK-NEXT: cluster.load_start %[[U]]
// CHECK-NEXT: cluster.for 6 : i64 {
// CHECK-NEXT: ^bb0(%[[J:.*]]: index):
// CHECK-NEXT: cluster.matvec_transposed %[[A]], %[[U]][%[[J]]] into %[[Z]]
// CHECK-NEXT: cluster.all_reduce %[[Z]] across "rows"
// CHECK-NEXT: cluster.dots %[[V]], %[[Z]] into %[[DOTS]] first %[[J]] pieces 1 : i64 :
// CHECK-NEXT: cluster.all_reduce %[[DOTS]] first %[[J]] across "cols"
// CHECK-NEXT: cluster.subtract %[[V]], %[[DOTS]] from %[[Z]] first %[[J]] pieces 2 : i64 :
// CHECK-NEXT: cluster.dots %[[V]], %[[Z]] into %[[DOTS]] first %[[J]] pieces 1 : i64 :
// CHECK-NEXT: cluster.all_reduce %[[DOTS]] first %[[J]] across "cols"
// CHECK-NEXT: cluster.subtract %[[V]], %[[DOTS]] from %[[Z]] first %[[J]] pieces 2 : i64 :
// CHECK-NEXT: cluster.norm2 %[[Z]] into %[[NORM]] pieces 1 : i64 :
// CHECK-NEXT: cluster.all_reduce %[[NORM]] across "cols"
// CHECK-NEXT: %[[ZZ:.*]] = cluster.load %[[NORM]]
// CHECK-NEXT: %[[BOUND:.*]] = cluster.load %[[LARGEST]]
// CHECK-NEXT: %[[TOP:.*]] = cluster.max %[[BOUND]], %[[ZZ]]
// CHECK-NEXT: cluster.store %[[TOP]], %[[LARGEST]]
// CHECK-NEXT: %[[LEAST:.*]] = cluster.mul %[[TOP]], %[[TOLERANCE]]
// After a breakdown the scale is zero, and so are all later vectors and norms.
// CHECK-NEXT: %[[RSQRT:.*]] = cluster.rsqrt %[[ZZ]]
// CHECK-NEXT: %[[INVERSE:.*]] = cluster.where_greater %[[ZZ]], %[[LEAST]], %[[RSQRT]]
// CHECK-NEXT: %[[ROOT:.*]] = cluster.mul %[[ZZ]], %[[INVERSE]]
// CHECK-NEXT: cluster.store %[[ROOT]], %[[ALPHA]][%[[J]]]
// CHECK-NEXT: cluster.scale %[[Z]] by %[[INVERSE]] into %[[V]][%[[J]]] pieces 2 : i64 :
// CHECK-NEXT: cluster.matvec %[[A]], %[[V]][%[[J]]] into %[[Y]]
// CHECK-NEXT: cluster.all_reduce %[[Y]] across "cols"
// CHECK-NEXT: cluster.dots %[[U]], %[[Y]] into %[[DOTS]] first %[[J]] shift 1 : i64 pieces 1 : i64 :
// CHECK-NEXT: cluster.all_reduce %[[DOTS]] first %[[J]] shift 1 : i64 across "rows"
// CHECK-NEXT: cluster.subtract %[[U]], %[[DOTS]] from %[[Y]] first %[[J]] shift 1 : i64 pieces 2 : i64 :
// CHECK-NEXT: cluster.dots
// CHECK-NEXT: cluster.all_reduce
// CHECK-NEXT: cluster.subtract
// CHECK-NEXT: cluster.norm2 %[[Y]] into %[[NORM]]
// CHECK-NEXT: cluster.all_reduce %[[NORM]] across "rows"
// CHECK-NEXT: %[[YY:.*]] = cluster.load %[[NORM]]
// CHECK-NEXT: %[[SOFAR:.*]] = cluster.load %[[LARGEST]]
// CHECK-NEXT: %[[MOST:.*]] = cluster.max %[[SOFAR]], %[[YY]]
// CHECK-NEXT: cluster.store %[[MOST]], %[[LARGEST]]
// CHECK-NEXT: %[[LITTLE:.*]] = cluster.mul %[[MOST]], %[[TOLERANCE]]
// CHECK-NEXT: %[[RSQRT2:.*]] = cluster.rsqrt %[[YY]]
// CHECK-NEXT: %[[INVERSE2:.*]] = cluster.where_greater %[[YY]], %[[LITTLE]], %[[RSQRT2]]
// CHECK-NEXT: %[[ROOT2:.*]] = cluster.mul %[[YY]], %[[INVERSE2]]
// CHECK-NEXT: cluster.store %[[ROOT2]], %[[BETA]][%[[J]]]
// CHECK-NEXT: cluster.scale %[[Y]] by %[[INVERSE2]] into %[[U]][%[[J]] shift 1 : i64]
// CHECK-NEXT: }
// CHECK-NEXT: cluster.output %[[U]] as "u"
// CHECK-NEXT: cluster.output %[[V]] as "v"
// CHECK-NEXT: cluster.output %[[ALPHA]] as "alpha"
// CHECK-NEXT: cluster.output %[[BETA]] as "beta"
// CHECK-NEXT: }

// One pass of reorthogonalisation.
// CHECK-LABEL: cluster.kernel @lanczos_40x36_k6_r1_s5 attributes {seed = 5 : i64} {
// CHECK: cluster.matvec_transposed
// CHECK-NEXT: cluster.all_reduce
// CHECK-NEXT: cluster.dots
// CHECK-NEXT: cluster.all_reduce
// CHECK-NEXT: cluster.subtract
// CHECK-NEXT: cluster.norm2
// CHECK-NOT: cluster.kernel

// Every operation says which line of the algorithm it is, and for which layers; those that share it have a star.
// LOC: cluster.matvec_transposed {{.*}} loc("z = A^T u"(fused["model.layers.*.self_attn"("llama.py":10:1), "model.layers.*.self_attn"("llama.py":20:1)]))
// LOC: cluster.dots {{.*}} loc("reorthogonalise z, pass 1"(
// LOC: cluster.dots {{.*}} loc("reorthogonalise z, pass 2"(
// LOC: cluster.where_greater {{.*}} loc("breakdown of beta"(
// LOC: cluster.scale {{.*}} loc("normalise z"(
// LOC: cluster.matvec {{.*}} loc("y = A v"(
// LOC: cluster.store {{.*}} loc("normalise y"(

// A decomposition that has its kernel gets no second one.
// ONCE-COUNT-2: cluster.kernel @
// ONCE-NOT: cluster.kernel @
