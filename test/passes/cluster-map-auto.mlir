// RUN: %dcomc opt %s -p lower-dcom-to-cluster,cluster-map{mapping=auto} | filecheck %s
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-map{mapping=auto streams=1x1}' | filecheck %s --check-prefix=ONE
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-map{mapping=auto explain=true}' 2>&1 >/dev/null | filecheck %s --check-prefix=WHY

// Groups of 4 x 8 in step have room for one matrix each, and wait while all of them load it.
// CHECK: @lanczos_1024x576{{.*}} slice_cols = 72 : i64, slice_rows = 256 : i64, {{.*}}streams = {across = 2 : i64, down = 4 : i64}
// ONE: @lanczos_1024x576{{.*}} span_cols = 8 : i64, span_rows = 4 : i64}} {
// WHY: kernel lanczos_1024x576_k3_r1_s0 on dcom-16x16, 1 launch of 64 matrices:
// WHY: mapping cycles counted one alone array busy bank busy
// WHY: 4x8, 4x2 streams (taken) 38,680 42,647
// WHY: 4x8 97,504 97,504
func.func @long(%x: tensor<65536x576xf32>) -> !dcom.factored<64x1024x576, rank 3, f32> {
  %f = dcom.decompose %x {layer = 0 : i64, site = "qkv", iterations = 3 : i64, reorthogonalisation = 1 : i64, seed = 0 : i64}
    : tensor<65536x576xf32> -> !dcom.factored<64x1024x576, rank 3, f32>
  func.return %f : !dcom.factored<64x1024x576, rank 3, f32>
}

// In step a short one takes no longer, and nothing is counted of streams that are not expected to save anything.
// CHECK: @lanczos_128x576{{.*}} span_cols = 2 : i64, span_rows = 2 : i64}} {
// WHY: kernel lanczos_128x576_k3_r1_s0 on dcom-16x16, 1 launch of 64 matrices:
// WHY: 2x2 (taken) 7,774 7,774
// WHY-NEXT: 2x8, 8x2 streams 7,884 -
func.func @short(%x: tensor<8192x576xf32>) -> !dcom.factored<64x128x576, rank 3, f32> {
  %f = dcom.decompose %x {layer = 1 : i64, site = "qkv", iterations = 3 : i64, reorthogonalisation = 1 : i64, seed = 0 : i64}
    : tensor<8192x576xf32> -> !dcom.factored<64x128x576, rank 3, f32>
  func.return %f : !dcom.factored<64x128x576, rank 3, f32>
}
