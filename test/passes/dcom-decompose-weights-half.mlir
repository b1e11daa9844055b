// RUN: %dcomc opt %s -p 'dcom-decompose-weights{layers=0 sites=o rank=4}' | filecheck %s

// The tracer widens weights of half precision before products: the factors are widened instead, and stored narrow but
// for the core.
// CHECK-NOT:     @model.layers.0.self_attn.o_proj.weight(
// CHECK:         @model.layers.0.self_attn.o_proj.weight.u({{.*}}) : tensor<12x4xf16>
// CHECK-NEXT:    @model.layers.0.self_attn.o_proj.weight.core({{.*}}) : tensor<4x4xf32>
// CHECK-NEXT:    @model.layers.0.self_attn.o_proj.weight.v({{.*}}) : tensor<4x6xf16>
// CHECK-LABEL: func.func private @decoder_layer_0(
// CHECK:         %[[V:.*]] = linalg.generic {{.*}} ins(%self_attn_o_proj_weight_v : tensor<4x6xf16>) outs(%{{.*}} : tensor<4x6xf32>)
// CHECK:         %[[U:.*]] = linalg.generic {{.*}} ins(%self_attn_o_proj_weight_u : tensor<12x4xf16>) outs(%{{.*}} : tensor<12x4xf32>)
// CHECK:         %[[W:.*]] = dcom.factored_weight %[[U]], %self_attn_o_proj_weight_core, %[[V]] {{.*}} -> !dcom.weight<12x6, rank 4x4, f32>
// CHECK-NOT:     linalg.transpose
// CHECK:         dcom.weight_matmul %x, %[[W]] {dcom.role = "o_proj"}

module attributes {dcom.model = "toy", dcom.batch = 2 : i64, dcom.seq_len = 8 : i64, dcom.layers = 1 : i64} {
  ml_program.global private @model.layers.0.self_attn.o_proj.weight(dense_resource<a> : tensor<6x12xbf16>) : tensor<6x12xbf16>
  func.func private @decoder_layer(%x: tensor<16x12xf32>, %w: tensor<6x12xbf16> {dcom.weight = "self_attn.o_proj.weight"}) -> tensor<16x6xf32> {
    %space = tensor.empty() : tensor<6x12xf32>
    %wide = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%w : tensor<6x12xbf16>) outs(%space : tensor<6x12xf32>) {
    ^bb0(%narrow: bf16, %unused: f32):
      %element = arith.extf %narrow : bf16 to f32
      linalg.yield %element : f32
    } -> tensor<6x12xf32>
    %turned = tensor.empty() : tensor<12x6xf32>
    %t = linalg.transpose ins(%wide : tensor<6x12xf32>) outs(%turned : tensor<12x6xf32>) permutation = [1, 0]
    %c = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<16x6xf32>
    %zero = linalg.fill ins(%c : f32) outs(%e : tensor<16x6xf32>) -> tensor<16x6xf32>
    %o = linalg.matmul {dcom.role = "o_proj"} ins(%x, %t : tensor<16x12xf32>, tensor<12x6xf32>) outs(%zero : tensor<16x6xf32>) -> tensor<16x6xf32>
    func.return %o : tensor<16x6xf32>
  }
  func.func @main(%x: tensor<16x12xf32>) -> tensor<16x6xf32> {
    %w = ml_program.global_load_const @model.layers.0.self_attn.o_proj.weight : tensor<6x12xbf16>
    %y = func.call @decoder_layer(%x, %w) {dcom.layer = 0 : i64} : (tensor<16x12xf32>, tensor<6x12xbf16>) -> tensor<16x6xf32>
    func.return %y : tensor<16x6xf32>
  }
}
