// RUN: %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=4}' | filecheck %s
// RUN: %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=4}' --print-debuginfo | filecheck %s --check-prefix=LOC
// RUN: %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=3 method=tucker2}' | filecheck %s --check-prefix=TUCKER
// RUN: %dcomc opt %s -p 'dcom-insert-outlier-split{layers=2 sites=qkv outliers=1 exact_rows=1},dcom-decompose-activations{layers=2 sites=qkv rank=2},dcom-decompose-weights{layers=2 sites=qkv rank=4},dcom-preserve-decomposed' | filecheck %s --check-prefix=BOTH
// RUN: not %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=7}' 2>&1 | filecheck %s --check-prefix=RANK
// RUN: not %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=4},dcom-decompose-activations{layers=2 sites=qkv rank=2}' 2>&1 | filecheck %s --check-prefix=ORDER
// RUN: env PYTHONHASHSEED=0 not %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv,o rank=4 statistics="none" config="%S/Inputs/weight_methods.toml"}' 2>&1 | filecheck %s --check-prefix=METHODS
// RUN: not %dcomc opt %s -p 'dcom-decompose-weights{layers=2 sites=qkv rank=4 method=whitened}' 2>&1 | filecheck %s --check-prefix=WHITENED

// The factors are new weights, and only the layer that has them loses the old ones.
// CHECK-NOT:     @model.layers.2.self_attn.q_proj.weight(
// CHECK:         ml_program.global private @model.layers.2.self_attn.q_proj.weight.u(dense_resource<model.layers.2.self_attn.q_proj.weight.u> : tensor<12x4xf32>) : tensor<12x4xf32>
// CHECK-NEXT:    ml_program.global private @model.layers.2.self_attn.q_proj.weight.core(dense_resource<{{.*}}> : tensor<4x4xf32>)
// CHECK-NEXT:    ml_program.global private @model.layers.2.self_attn.q_proj.weight.v(dense_resource<{{.*}}> : tensor<4x12xf32>)
// CHECK:         ml_program.global private @model.layers.2.self_attn.v_proj.weight.v(dense_resource<{{.*}}> : tensor<4x6xf32>)
// CHECK-LABEL: func.func private @decoder_layer(
// CHECK-SAME:    %wq: tensor<12x12xf32> {dcom.weight = "self_attn.q_proj.weight"}
// CHECK-LABEL: func.func private @decoder_layer_2(
// CHECK-SAME:    %x: tensor<16x12xf32>, %bias: tensor<16x6xf32>, %self_attn_q_proj_weight_u: tensor<12x4xf32> {dcom.weight = "self_attn.q_proj.weight.u"}
// CHECK:         %[[Q:.*]] = dcom.factored_weight %self_attn_q_proj_weight_u, %self_attn_q_proj_weight_core, %self_attn_q_proj_weight_v {of = "model.layers.2.self_attn.q_proj.weight", layer = 2 : i64, site = "qkv", method = "svd"} : tensor<12x4xf32>, tensor<4x4xf32>, tensor<4x12xf32> -> !dcom.weight<12x12, rank 4x4, f32>
// CHECK:         dcom.weight_matmul %x, %[[Q]] {dcom.role = "q_proj"} : tensor<16x12xf32>, !dcom.weight<12x12, rank 4x4, f32> -> tensor<16x12xf32>
// A matmul that starts from a tensor other than zero adds it.
// CHECK:         %[[V:.*]] = dcom.weight_matmul %x, %{{.*}} {dcom.role = "v_proj"}
// CHECK:         linalg.generic {{.*}} ins(%[[V]], %bias :
// CHECK-NEXT:    ^bb0
// CHECK-NEXT:      arith.addf
// CHECK-NOT:     linalg.transpose
// CHECK-LABEL: func.func @main
// CHECK:         func.call @decoder_layer(%x, %bias, %{{.*}}, %{{.*}}, %{{.*}}) {dcom.layer = 1
// CHECK:         %[[U:.*]] = ml_program.global_load_const @model.layers.2.self_attn.q_proj.weight.u : tensor<12x4xf32>
// CHECK:         func.call @decoder_layer_2(%x, %bias, %[[U]],

// LOC: dcom.factored_weight %{{.*}}q_proj.weight"{{.*}} loc("model.layers.2.self_attn.q_proj"("model.py":7:1))
// LOC: dcom.weight_matmul {{.*}} loc("model.layers.2.self_attn.q_proj"("model.py":7:1))

// k and v have one shape: their U and V are one, each has its core.
// TUCKER-NOT:  @model.layers.2.self_attn.v_proj.weight.u
// TUCKER:      dcom.factored_weight %self_attn_q_proj_weight_u, %self_attn_q_proj_weight_core, %self_attn_q_proj_weight_v {{.*}}method = "tucker2"
// TUCKER:      dcom.factored_weight %self_attn_k_proj_weight_u, %self_attn_k_proj_weight_core, %self_attn_k_proj_weight_v
// TUCKER:      dcom.factored_weight %self_attn_k_proj_weight_u, %self_attn_v_proj_weight_core, %self_attn_k_proj_weight_v {of = "model.layers.2.self_attn.v_proj.weight"

// A factored activation times a factored weight has a new core only; what is kept exact is multiplied by the factors too.
// BOTH:        %[[F:.*]] = dcom.decompose
// BOTH:        %[[W:.*]] = dcom.factored_weight %self_attn_q_proj_weight_u
// BOTH:        %[[G:.*]] = dcom.matmul %[[F]], %[[W]] {dcom.role = "q_proj"} : !dcom.factored<2x8x12, rank 2, f32>, !dcom.weight<12x12, rank 4x4, f32> -> !dcom.factored<2x8x12, rank 2x4, f32>
// BOTH:        dcom.reconstruct %[[G]] {{.*}} : !dcom.factored<2x8x12, rank 2x4, f32> -> tensor<16x12xf32>
// BOTH:        dcom.token_matmul %{{.*}}, %[[W]] :
// BOTH:        dcom.outlier_matmul %{{.*}}, %[[W]] :

// RANK: error: weight rank 7 is not between 1 and 6; model.layers.2.self_attn.k_proj.weight is 12 x 6
// ORDER: error: site qkv of layer 2 is already decomposed; decompose its activations, then its weights, each once
// METHODS: error: statistics have no part in method svd, tucker2;
// WHITENED: error: no statistics given; method whitened needs a file made by `dcomc statistics`

module attributes {dcom.model = "toy", dcom.batch = 2 : i64, dcom.seq_len = 8 : i64, dcom.layers = 3 : i64} {
  ml_program.global private @model.layers.1.self_attn.q_proj.weight(dense_resource<a> : tensor<12x12xf32>) : tensor<12x12xf32>
  ml_program.global private @model.layers.1.self_attn.k_proj.weight(dense_resource<b> : tensor<6x12xf32>) : tensor<6x12xf32>
  ml_program.global private @model.layers.1.self_attn.v_proj.weight(dense_resource<c> : tensor<6x12xf32>) : tensor<6x12xf32>
  ml_program.global private @model.layers.2.self_attn.q_proj.weight(dense_resource<d> : tensor<12x12xf32>) : tensor<12x12xf32>
  ml_program.global private @model.layers.2.self_attn.k_proj.weight(dense_resource<e> : tensor<6x12xf32>) : tensor<6x12xf32>
  ml_program.global private @model.layers.2.self_attn.v_proj.weight(dense_resource<f> : tensor<6x12xf32>) : tensor<6x12xf32>
  func.func private @decoder_layer(%x: tensor<16x12xf32>, %bias: tensor<16x6xf32>, %wq: tensor<12x12xf32> {dcom.weight = "self_attn.q_proj.weight"} loc("model.layers.*.self_attn.q_proj"("model.py":7:1)), %wk: tensor<6x12xf32> {dcom.weight = "self_attn.k_proj.weight"}, %wv: tensor<6x12xf32> {dcom.weight = "self_attn.v_proj.weight"}) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>) {
    %c = arith.constant 0.0 : f32
    %e0 = tensor.empty() : tensor<12x12xf32>
    %q0 = linalg.transpose ins(%wq : tensor<12x12xf32>) outs(%e0 : tensor<12x12xf32>) permutation = [1, 0]
    %e1 = tensor.empty() : tensor<16x12xf32>
    %z1 = linalg.fill ins(%c : f32) outs(%e1 : tensor<16x12xf32>) -> tensor<16x12xf32>
    %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %q0 : tensor<16x12xf32>, tensor<12x12xf32>) outs(%z1 : tensor<16x12xf32>) -> tensor<16x12xf32> loc("model.layers.*.self_attn.q_proj"("model.py":7:1))
    %e2 = tensor.empty() : tensor<12x6xf32>
    %k0 = linalg.transpose ins(%wk : tensor<6x12xf32>) outs(%e2 : tensor<12x6xf32>) permutation = [1, 0]
    %e3 = tensor.empty() : tensor<16x6xf32>
    %z3 = linalg.fill ins(%c : f32) outs(%e3 : tensor<16x6xf32>) -> tensor<16x6xf32>
    %k = linalg.matmul {dcom.role = "k_proj"} ins(%x, %k0 : tensor<16x12xf32>, tensor<12x6xf32>) outs(%z3 : tensor<16x6xf32>) -> tensor<16x6xf32>
    %e4 = tensor.empty() : tensor<12x6xf32>
    %v0 = linalg.transpose ins(%wv : tensor<6x12xf32>) outs(%e4 : tensor<12x6xf32>) permutation = [1, 0]
    %v = linalg.matmul {dcom.role = "v_proj"} ins(%x, %v0 : tensor<16x12xf32>, tensor<12x6xf32>) outs(%bias : tensor<16x6xf32>) -> tensor<16x6xf32>
    func.return %q, %k, %v : tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>
  }
  func.func @main(%x: tensor<16x12xf32>, %bias: tensor<16x6xf32>) -> tensor<16x12xf32> {
    %q1 = ml_program.global_load_const @model.layers.1.self_attn.q_proj.weight : tensor<12x12xf32>
    %k1 = ml_program.global_load_const @model.layers.1.self_attn.k_proj.weight : tensor<6x12xf32>
    %v1 = ml_program.global_load_const @model.layers.1.self_attn.v_proj.weight : tensor<6x12xf32>
    %a:3 = func.call @decoder_layer(%x, %bias, %q1, %k1, %v1) {dcom.layer = 1 : i64} : (tensor<16x12xf32>, tensor<16x6xf32>, tensor<12x12xf32>, tensor<6x12xf32>, tensor<6x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>)
    %q2 = ml_program.global_load_const @model.layers.2.self_attn.q_proj.weight : tensor<12x12xf32>
    %k2 = ml_program.global_load_const @model.layers.2.self_attn.k_proj.weight : tensor<6x12xf32>
    %v2 = ml_program.global_load_const @model.layers.2.self_attn.v_proj.weight : tensor<6x12xf32>
    %b:3 = func.call @decoder_layer(%x, %bias, %q2, %k2, %v2) {dcom.layer = 2 : i64} : (tensor<16x12xf32>, tensor<16x6xf32>, tensor<12x12xf32>, tensor<6x12xf32>, tensor<6x12xf32>) -> (tensor<16x12xf32>, tensor<16x6xf32>, tensor<16x6xf32>)
    func.return %b#0 : tensor<16x12xf32>
  }
}
