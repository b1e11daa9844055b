// RUN: sed -e 's/^rows = 16/rows = 2/' -e 's/^cols = 16/cols = 2/' -e 's/^mac_rows = 8/mac_rows = 4/' -e 's/^mac_cols = 8/mac_cols = 4/' %S/../../dcomc/configs/machines/dcom-16x16.toml > %t.toml
// RUN: sed -e 's/^buffer_bytes = 65536/buffer_bytes = 896/' %t.toml > %t.resident.toml
// RUN: sed -e 's/^buffer_bytes = 65536/buffer_bytes = 895/' %t.toml > %t.streamed.toml
// RUN: sed -e 's/^buffer_bytes = 65536/buffer_bytes = 671/' %t.toml > %t.short.toml
// RUN: sed -e 's/^capacity_bytes = 5368709120/capacity_bytes = 1000/' %t.toml > %t.bank.toml
// RUN: %dcomc opt %s -p 'cluster-schedule{machine="%t.resident.toml"}' | filecheck %s
// RUN: %dcomc opt %s -p 'cluster-schedule{machine="%t.streamed.toml"}' | filecheck %s --check-prefix=STREAMED
// RUN: not %dcomc opt %s -p 'cluster-schedule{machine="%t.short.toml"}' 2>&1 | filecheck %s --check-prefix=SHORT
// RUN: not %dcomc opt %s -p 'cluster-schedule{machine="%t.bank.toml"}' 2>&1 | filecheck %s --check-prefix=BANK
// RUN: sed -e 's/, mapping = {.*}}/}/' %s > %t.mlir
// RUN: not %dcomc opt %t.mlir -p cluster-schedule 2>&1 | filecheck %s --check-prefix=UNMAPPED

// Resident: the vectors' 404 bytes, from the next tile of 32 bytes on, 416, the block of 5 x 3 tiles, 480 bytes: 896.
// The banks hold 2 blocks; the start vector; U of 4 x 20 in binary16 for each cluster row; V of 3 x 12; 6 scalars.
//      CHECK: cluster.kernel @k attributes {seed = 3 : i64,
// CHECK-SAME: mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 12 : i64, slice_rows = 20 : i64, span_cols = 0 : i64, span_rows = 0 : i64},
// CHECK-SAME: banks = {a_offset = 0 : i64, a_stride = 480 : i64, alpha_offset = 1792 : i64, bank_bytes = 1920 : i64,
// CHECK-SAME: start_offset = 1024 : i64, u_offset = 1152 : i64, u_stride = 256 : i64, v_offset = 1664 : i64}}

// Streamed: 5 tile rows in 2 chunks of 3, or 4 of 2, lengthen slice and vectors too much; 6 chunks of 1 fit: the vectors'
// 452 bytes with slices of 24 rows, from 480 on twice 96 bytes: 672.
//      STREAMED: cluster.kernel @k attributes {seed = 3 : i64,
// STREAMED-SAME: mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 12 : i64, slice_rows = 24 : i64, span_cols = 0 : i64, span_rows = 0 : i64},
// STREAMED-SAME: banks = {a_offset = 0 : i64, a_stride = 576 : i64,
// STREAMED-SAME: start_offset = 1152 : i64,

// SHORT: {{.*}}cluster-schedule.mlir:30: error: kernel @k needs 404 bytes of buffer for vectors and bases and 192 for two tile rows of the activation, but dcom-16x16 has 671 in a cluster; use fewer iterations, a shorter sequence, or a machine with larger buffers or more clusters
// BANK: {{.*}}cluster-schedule.mlir:30: error: kernel @k needs 1920 bytes of each bank, but dcom-16x16 has 1000; trace a shorter sequence
// UNMAPPED: {{.*}}.mlir:30: error: kernel @k has no mapping; run cluster-map first
cluster.kernel @k attributes {seed = 3 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 12 : i64, slice_rows = 20 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
  // CHECK-NEXT: cluster.matrix {chunks = 1 : i64, offset = 416 : i64}
  // STREAMED: cluster.matrix {chunks = 6 : i64, offset = 480 : i64}
  %a = cluster.matrix : !cluster.matrix<40x24>
  // CHECK-NEXT: %u = cluster.alloc {offset = 0 : i64}
  // STREAMED-NEXT: %u = cluster.alloc {offset = 0 : i64}
  %u = cluster.alloc : !cluster.basis<4x40, rows>
  // CHECK-NEXT: %v = cluster.alloc {offset = 160 : i64}
  // STREAMED-NEXT: %v = cluster.alloc {offset = 192 : i64}
  %v = cluster.alloc : !cluster.basis<3x24, cols>
  // CHECK-NEXT: %y = cluster.alloc {offset = 232 : i64}
  // STREAMED-NEXT: %y = cluster.alloc {offset = 264 : i64}
  %y = cluster.alloc : !cluster.vector<40, rows>
  // CHECK-NEXT: %z = cluster.alloc {offset = 312 : i64}
  // STREAMED-NEXT: %z = cluster.alloc {offset = 360 : i64}
  %z = cluster.alloc : !cluster.vector<24, cols>
  // CHECK-NEXT: %cells = cluster.alloc {offset = 360 : i64}
  // STREAMED-NEXT: %cells = cluster.alloc {offset = 408 : i64}
  %cells = cluster.alloc : !cluster.cells<11>
}
