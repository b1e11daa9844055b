// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8}' | filecheck %s
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8 vectors=buffers}' | filecheck %s --check-prefix=BUFFERS
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=1}' | filecheck %s --check-prefix=ONE
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=64}' | filecheck %s --check-prefix=TURNS
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=full}' | filecheck %s --check-prefix=FULL
// RUN: %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8 sums=all-gather vectors=buffers}' | filecheck %s --check-prefix=GATHER
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=12}' 2>&1 | filecheck %s --check-prefix=NONE
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=half}' 2>&1 | filecheck %s --check-prefix=NO-FACTOR
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8 vectors=disk}' 2>&1 | filecheck %s --check-prefix=NO-PLACE
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8 sums=none}' 2>&1 | filecheck %s --check-prefix=NO-SUMS
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8},cluster-expand-reductions{factor=8}' 2>&1 | filecheck %s --check-prefix=TWICE
// RUN: sed -e 's/"modified"/"classical"/' %s > %t.mlir
// RUN: not %dcomc opt %t.mlir -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8}' 2>&1 | filecheck %s --check-prefix=CLASSICAL
// RUN: sed -e 's/x300x/x/; s/40x36/40x300/g' %s > %t.mlir
// RUN: not %dcomc opt %t.mlir -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=full}' 2>&1 | filecheck %s --check-prefix=LONG
// RUN: sed -e 's/^bytes = 65536/bytes = 28/' %S/../../dcomc/configs/machines/dcom-16x16.toml > %t.toml
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8 machine="%t.toml"}' 2>&1 | filecheck %s --check-prefix=SMALL
// RUN: not %dcomc opt %s -p 'lower-dcom-to-cluster,cluster-expand-reductions{factor=8},cluster-map{mapping=column},cluster-schedule' 2>&1 | filecheck %s --check-prefix=COLUMN

func.func @f(%x: tensor<40x36xf32>) -> !dcom.factored<1x40x36, rank 5, f32> {
  %f = dcom.decompose %x {layer = 1 : i64, site = "o", iterations = 6 : i64, reorthogonalisation = 2 : i64, seed = 0 : i64, gram_schmidt = "modified"}
    : tensor<40x36xf32> -> !dcom.factored<1x40x36, rank 5, f32>
  func.return %f : !dcom.factored<1x40x36, rank 5, f32>
}

// f = 8: groups of 8 x 4 clusters, in which 8 replicas lie along the line that holds a slice; for U, along a row.
// CHECK-LABEL: cluster.kernel @lanczos_40x36_k6_r2_s0_modified
//       CHECK: %[[U:.*]] = cluster.alloc : !cluster.basis<7x40, rows>
//  CHECK-NEXT: %[[V:.*]] = cluster.alloc : !cluster.basis<6x36, cols>
//  CHECK-NEXT: %[[Y:.*]] = cluster.alloc : !cluster.vector<40, rows>
//  CHECK-NEXT: %[[Z:.*]] = cluster.alloc : !cluster.vector<36, cols>
//  CHECK-NEXT: %[[C:.*]] = cluster.alloc : !cluster.cells<1>
//       CHECK: %[[VP:.*]] = cluster.alloc : !cluster.basis<1x36, cols, 1 of 16>
//  CHECK-NEXT: %[[ZP:.*]] = cluster.alloc : !cluster.vector<36, cols, 1 of 16>
//  CHECK-NEXT: %[[VB:.*]] = cluster.bank_room : !cluster.basis<6x36, cols, 1 of 16>
//  CHECK-NEXT: %[[ZB:.*]] = cluster.bank_room : !cluster.vector<36, cols, 1 of 16>
//  CHECK-NEXT: %[[S:.*]] = cluster.alloc : !cluster.cells<1>
//  CHECK-NEXT: %[[D:.*]] = cluster.alloc : !cluster.vector<36, cols, 1 of 16>
//  CHECK-NEXT: %[[R:.*]] = cluster.alloc : !cluster.basis<1x36, cols, 8 of 16>
//  CHECK-NEXT: %[[P:.*]] = cluster.alloc : !cluster.vector<36, cols, 8 of 16>
// The start vector goes to the banks, too.
//       CHECK: cluster.load_start %[[U]]
//  CHECK-NEXT: cluster.part %[[U]] into %[[UP:.*]] :
//  CHECK-NEXT: cluster.write %[[UP]] into %[[UB:.*]] :
//       CHECK: cluster.all_reduce %[[Z]] across "rows"
//  CHECK-NEXT: cluster.part %[[Z]] into %[[ZP]] :
//  CHECK-NEXT: cluster.write %[[ZP]] into %[[ZB]] :
//  CHECK-NEXT: cluster.each first %j {
//  CHECK-NEXT: ^bb0(%[[I:.*]]: index):
//  CHECK-NEXT: cluster.read %[[VB]][%[[I]]] into %[[VP]] :
//  CHECK-NEXT: cluster.read %[[ZB]] into %[[ZP]] :
//  CHECK-NEXT: cluster.dot %[[VP]], %[[ZP]] into %[[C]] pieces 1 : i64 :
//  CHECK-NEXT: cluster.group_reduce %[[C]] over 8 : i64 by 4 : i64 :
//  CHECK-NEXT: cluster.exchange %[[C]] of 8 : i64 by 4 : i64 into %[[S]] over 8 : i64 by 1 : i64 :
//  CHECK-NEXT: cluster.gather %[[VP]] into %[[R]] :
//  CHECK-NEXT: cluster.multiply %[[R]], %[[S]] into %[[P]] pieces 2 : i64 :
//  CHECK-NEXT: cluster.replica_reduce %[[P]] into %[[D]] :
//  CHECK-NEXT: cluster.minus %[[ZP]], %[[D]] :
//  CHECK-NEXT: cluster.write %[[ZP]] into %[[ZB]] :
//  CHECK-NEXT: }
// The second pass goes on with the vector in parts.
//  CHECK-NEXT: cluster.each first %j {
//       CHECK: }
//  CHECK-NEXT: cluster.gather %[[ZP]] into %[[Z]] :
//  CHECK-NEXT: cluster.norm2 %[[Z]]
//       CHECK: cluster.scale %[[Z]] by {{.*}} into %[[V]][%j]
//  CHECK-NEXT: cluster.part %[[V]][%j] into %[[VP]] :
//  CHECK-NEXT: cluster.write %[[VP]] into %[[VB]][%j] :
//       CHECK: cluster.each first %j shift 1 : i64 {
//       CHECK: cluster.group_reduce %[[C]] over 4 : i64 by 8 : i64 :
//  CHECK-NEXT: cluster.exchange %[[C]] of 4 : i64 by 8 : i64 into %{{.*}} over 1 : i64 by 8 : i64 :
//       CHECK: cluster.write %[[UP]] into %[[UB]][%j shift 1 : i64] :

// In the buffers nothing is read or written, and a replica takes its part of the slice that its cluster holds.
// BUFFERS-NOT: cluster.bank_room
//     BUFFERS: cluster.each first %j {
//        BUFFERS: cluster.part %v[%[[I:.*]]] into %v_part :
//   BUFFERS-NEXT: cluster.dot
//   BUFFERS-NEXT: cluster.group_reduce
//   BUFFERS-NEXT: cluster.exchange
//   BUFFERS-NEXT: cluster.part %v[%[[I]]] into %v_replica :
//   BUFFERS-NEXT: cluster.multiply
//   BUFFERS-NEXT: cluster.replica_reduce
//   BUFFERS-NEXT: cluster.minus
//   BUFFERS-NEXT: }

// f = 1, Fig. 9a: one reduction over all clusters, a broadcast, a round trip to memory.
//      ONE: cluster.read %v_bank
// ONE-NEXT: cluster.read %z_bank
// ONE-NEXT: cluster.dot
// ONE-NEXT: cluster.group_reduce %dots over 16 : i64 by 16 : i64 :
// ONE-NEXT: cluster.exchange %dots of 16 : i64 by 16 : i64 into %sums over 1 : i64 by 1 : i64 :
// ONE-NEXT: cluster.project_out %v_part, %sums from %z_part pieces 2 : i64 :
// ONE-NEXT: cluster.write %z_part into %z_bank
// ONE-NEXT: }

// f = 64, more than the square root of 256: groups of 4 clusters, replicas that take 16 partial sums each.
//      TURNS: cluster.group_reduce %dots over 4 : i64 by 1 : i64 :
// TURNS-NEXT: cluster.exchange %dots of 4 : i64 by 1 : i64 into %sums over 4 : i64 by 1 : i64 : !cluster.cells<1>, !cluster.cells<16>
// TURNS-NEXT: cluster.gather %v_part into %v_replica : !cluster.basis<1x36, cols, 1 of 16>, !cluster.basis<1x36, cols, 4 of 16>

// Fig. 9b: each element a group, no sum over several clusters, every cluster multiplies by all.
//      FULL: cluster.group_reduce %dots over 1 : i64 by 1 : i64 :
// FULL-NEXT: cluster.exchange %dots of 1 : i64 by 1 : i64 into %sums over 1 : i64 by 1 : i64 : !cluster.cells<1>, !cluster.cells<256>
// FULL-NEXT: cluster.multiply %v_part, %sums into %z_correction pieces 2 : i64 :
// FULL-NEXT: cluster.minus %z_part, %z_correction :

// Each cluster gets all partial sums and adds them.
//      GATHER: cluster.group_reduce %dots over 8 : i64 by 4 : i64 :
// GATHER-NEXT: cluster.exchange %dots of 8 : i64 by 4 : i64 into %sums over 1 : i64 by 1 : i64 : !cluster.cells<1>, !cluster.cells<8>
// GATHER-NEXT: cluster.sum %sums into %dots :
// GATHER-NEXT: cluster.project_out %v_part, %dots from %z_part pieces 2 : i64 :
// GATHER-NEXT: }

// NONE: error: factor 12 cuts the 16 x 16 clusters of dcom-16x16 into no equal groups of 12 replicas; one of 1, 2, 4, 8, 16, 32, 64, 128, 256
// NO-FACTOR: error: unknown factor 'half'; a number of groups, or full
// NO-PLACE: error: unknown vectors 'disk'; one of banks, buffers
// NO-SUMS: error: unknown sums 'none'; one of replicas, all-gather
// TWICE: error: a loop over vectors is no step of modified Gram-Schmidt: dot, all_reduce, project_out of one vector; expand a kernel once, as lower-dcom-to-cluster writes it
// CLASSICAL: error: kernel @lanczos_40x36_k6_r2_s0 has no modified Gram-Schmidt; decompose with gram_schmidt = modified and at least one pass
// LONG: error: a vector of 300 elements has more than one in some of the 256 clusters; full expansion is for short vectors; give a factor
// SMALL: error: 8 partial sums take 32 bytes of global memory, but dcom-16x16 has 28; give a smaller factor
// COLUMN: error: vectors in parts need all clusters for one matrix; cluster-map{mapping=grid in_flight=1}
