; Two kernels by hand: one multiplies a tile in a loop, the other does nothing.
.machine dcom-16x16
.options {"rank": 1}

.kernel multiply
.layout rows=8 cols=8 iterations=1 slice_rows=8 slice_cols=8 a_offset=0 a_stride=128 start_offset=128 u_offset=144 u_stride=32 v_offset=176 alpha_offset=192 bank_bytes=200 span_rows=0 span_cols=0 folded=0 in_flight=1
.seed 3
.loc "model.layers.1.mlp (model.py:7)"
    ld [r0+0x100], r1, 128, 0, 1, 1, t0
    wait t0
    li r2, 4                    ; turns
turns:
    loop r2, end
    mv.row [r0+0x40], [r0+0x100], [r0+0x0], 1, 1, 0
.loc "model.layers.1.mlp (model.py:8)"
    exit.ngt s0, s1, end
    addi r3, r3, 16
end:
    halt

.kernel nothing
.layout rows=8 cols=8 iterations=1 slice_rows=8 slice_cols=8 a_offset=0 a_stride=128 start_offset=128 u_offset=144 u_stride=32 v_offset=176 alpha_offset=192 bank_bytes=200 span_rows=0 span_cols=0 folded=0 in_flight=1
    halt

.launch kernel=multiply layer=1 site=down prompts=2 rank=1 location="model.layers.1.mlp.down_proj (model.py:9)"
.activation layer1.down rows=16 cols=8
| AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZH
| SElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6P
| kJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX
| 2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==
.host
| module {
| }
