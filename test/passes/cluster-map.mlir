// RUN: sed -e 's/^rows = 16/rows = 2/' -e 's/^cols = 16/cols = 3/' -e 's/^mac_rows = 8/mac_rows = 4/' -e 's/^mac_cols = 8/mac_cols = 2/' %S/../../dcomc/configs/machines/dcom-16x16.toml > %t.toml
// RUN: %dcomc opt %s -p cluster-map | filecheck %s
// RUN: %dcomc opt %s -p cluster-map{machine=dcom-16x16} | filecheck %s
// RUN: %dcomc opt %s -p 'cluster-map{machine="%t.toml"}' | filecheck %s --check-prefix=SMALL
// RUN: %dcomc opt %s -p cluster-map{streams=2x2} | filecheck %s --check-prefix=STREAMS
// RUN: not %dcomc opt %s -p cluster-map{streams=3x1} 2>&1 | filecheck %s --check-prefix=THREE
// RUN: not %dcomc opt %s -p cluster-map{streams=two} 2>&1 | filecheck %s --check-prefix=TWO
// RUN: not %dcomc opt %s -p 'cluster-map{streams=4x4 mapping=8x8}' 2>&1 | filecheck %s --check-prefix=GROUP
// RUN: not %dcomc opt %s -p cluster-map{machine=dcom-61x61} 2>&1 | filecheck %s --check-prefix=UNKNOWN
// RUN: sed -e 's/512x576/524289x8/' %s > %t.mlir
// RUN: not %dcomc opt %t.mlir -p cluster-map 2>&1 | filecheck %s --check-prefix=LONG

// 512 rows over 16 clusters are 4 tiles of 8, 576 columns 4.5 and so 5; over 2 x 3 clusters of 4 x 2, 256 and 192.
// CHECK: cluster.kernel @even attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 40 : i64, slice_rows = 32 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
// SMALL: cluster.kernel @even attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 192 : i64, slice_rows = 256 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
// Each of four streams has 8 x 8 clusters, of which one has 64 rows and 72 columns.
// STREAMS: cluster.kernel @even attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 72 : i64, slice_rows = 64 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, streams = {across = 2 : i64, down = 2 : i64}} {
cluster.kernel @even attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<512x576>
}

// A slice is at least a tile.
// CHECK: cluster.kernel @less attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 8 : i64, slice_rows = 8 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
// SMALL: cluster.kernel @less attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 4 : i64, slice_rows = 4 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
cluster.kernel @less attributes {seed = 0 : i64} {
  %a = cluster.matrix : !cluster.matrix<1x7>
}

// CHECK: cluster.kernel @again attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 16 : i64, slice_rows = 16 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
// SMALL: cluster.kernel @again attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 44 : i64, slice_rows = 68 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
cluster.kernel @again attributes {seed = 0 : i64, mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 1 : i64, slice_rows = 1 : i64, span_cols = 0 : i64, span_rows = 0 : i64}} {
  %a = cluster.matrix : !cluster.matrix<129x130>
}

// THREE: error: 3 x 1 streams do not fill the 16 x 16 clusters of dcom-16x16; give divisors of these
// TWO: error: streams 'two' are no rows and columns; such as 2x2, 1x1 for one stream, or auto
// GROUP: error: groups of 8 x 8 do not fill the 4 x 4 clusters of each stream on dcom-16x16; give divisors of these
// UNKNOWN: error: unknown machine 'dcom-61x61'; did you mean 'dcom-16x16'?
// LONG: {{.*}}.mlir:18: error: an activation of 524289 x 8 gives a cluster 32776 x 8 elements; an instruction counts to 32767;
