// RUN: %dcomc opt %s -p lower-dcom-to-cluster,cluster-map{mapping=auto} | filecheck %s
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-map{mapping=auto streams=1x1}' | filecheck %s --check-prefix=ONE
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-map{mapping=auto explain=true}' 2>&1 >/dev/null | filecheck %s --check-prefix=WHY

// Groups in step have room for one matrix each, and wait while all of them load it.
// CHECK: @lanczos_1024x576{{.*}} slice_cols = 72 : i64, slice_rows = 256 : i64, {{.*}}streams = {across = 2 : i64, down = 4 : i64}
// ONE: @lanczos_1024x576{{.*}} span_cols = 2 : i64, span_rows = 0 : i64}} {
// WHY: kernel lanczos_1024x576_k3_r1_s0 on dcom-16x16, 1 launch of 64 matrices:
// WHY: mapping expected counted one alone arrays banks more limit
// WHY: 4x8, 4x2 streams (taken) 42,136 42,647 4,835 40% 98% chain
// WHY: 2x16, 8x1 streams 46,424 - 5,243 43% 101% +8.9% bank
// WHY: other mappings expected to be no sooner
// WHY-NEXT: no mapping takes fewer than {{[0-9,]+}} cycles; the one taken, {{[1-9]\.[0-9]+}} times as many
func.func @long(%x: tensor<65536x576xf32>) -> !dcom.factored<64x1024x576, rank 3, f32> {
  %f = dcom.decompose %x {layer = 0 : i64, site = "qkv", iterations = 3 : i64, reorthogonalisation = 1 : i64, seed = 0 : i64}
    : tensor<65536x576xf32> -> !dcom.factored<64x1024x576, rank 3, f32>
  func.return %f : !dcom.factored<64x1024x576, rank 3, f32>
}

// Of a short one each stream has several groups, which lie on no bank above one another.
// CHECK: @lanczos_128x576{{.*}} span_cols = 4 : i64, span_rows = 0 : i64}, streams = {across = 1 : i64, down = 16 : i64}} {
// ONE: @lanczos_128x576{{.*}} span_cols = 1 : i64, span_rows = 0 : i64}} {
// WHY: kernel lanczos_128x576_k3_r1_s0 on dcom-16x16, 1 launch of 64 matrices:
// WHY: 1x4, 16x1 streams (taken) 7,526 7,526
// WHY: 2x2 7,774 - {{.*}} chain
// WHY: 16x1, 4 in flight 7,877 7,666 3,049 76% 178% +1.9% bank
func.func @short(%x: tensor<8192x576xf32>) -> !dcom.factored<64x128x576, rank 3, f32> {
  %f = dcom.decompose %x {layer = 1 : i64, site = "qkv", iterations = 3 : i64, reorthogonalisation = 1 : i64, seed = 0 : i64}
    : tensor<8192x576xf32> -> !dcom.factored<64x128x576, rank 3, f32>
  func.return %f : !dcom.factored<64x128x576, rank 3, f32>
}
