// RUN: %dcomc opt %s --split-input-file --verify-diagnostics -p dcom-preserve-decomposed | filecheck %s
// RUN: head -n 18 %s | %dcomc opt --remarks -p dcom-preserve-decomposed 2>&1 >%t.mlir | filecheck %s --check-prefix=REMARK
// RUN: head -n 18 %s | %dcomc opt --mlir-print-ir-after-all --print-op-generic -p 'builtin.module(dcom-preserve-decomposed,cse)' >%t.mlir 2>%t.log
// RUN: filecheck %s --check-prefix=AFTER --input-file %t.log && filecheck %s --check-prefix=GENERIC --input-file %t.mlir
// RUN: not %dcomc opt %s --split-input-file -p dcom-preserve-decomposed 2>&1 | filecheck %s --check-prefix=ERROR

// CHECK-LABEL: func.func @left
// CHECK:         dcom.reconstruct
// REMARK: <stdin>:14: remark: reconstructed for it leaves the function (<stdin>:16)
// AFTER: // -----// IR Dump After dcom-preserve-decomposed //----- //
// AFTER: // -----// IR Dump After cse //----- //
// GENERIC: "dcom.reconstruct"(%f) {{.*}}dcom.stopped = "it leaves the function
func.func @left(%f: !dcom.factored<2x8x12, rank 4, f32>) -> tensor<16x12xf32> {
  %a = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x12xf32>
  // expected-remark @-1 {{reconstructed for it leaves the function (opt.mlir:16)}}
  func.return %a : tensor<16x12xf32>
}

// -----

// Nothing is printed in the place of what is wrong.
// CHECK:      // -----
// CHECK-NEXT: // -----
// CHECK-NEXT: builtin.module
// ERROR: opt.mlir:29:3: error: tensor has 13 channels, but the dcom.factored type has 12
// ERROR-NOT: {{.}}
func.func @wrong(%f: !dcom.factored<2x8x12, rank 4, f32>) -> tensor<16x13xf32> {
  // expected-error @below {{tensor has 13 channels, but the dcom.factored type has 12}}
  %a = dcom.reconstruct %f : !dcom.factored<2x8x12, rank 4, f32> -> tensor<16x13xf32>
  func.return %a : tensor<16x13xf32>
}

// -----

func.func private @declared(!dcom.factored<2x8x12, rank 4, f32>)
