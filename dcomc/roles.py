"""The role of a projection in a decoder layer, by the name of its module in a model of transformers."""

_OTHER_NAMES = {
    "query_key_value": "qkv_proj",
    "dense": "o_proj",
    "out_proj": "o_proj",
    "c_fc": "up_proj",
    "dense_h_to_4h": "up_proj",
    "fc1": "up_proj",
    "c_proj": "down_proj",
    "dense_4h_to_h": "down_proj",
    "fc2": "down_proj",
}
"""Roles by what relatives of Llama call their projections: Phi, Starcoder 2, GPT-NeoX, Persimmon."""


def role_of(module: str) -> str:
    """The role of the projection at a module path, as `dcom.role` has it: `model.layers.0.mlp.fc1` is an `up_proj`.

    A module of another name has that name as its role.
    """
    name = module.rpartition(".")[2]
    return _OTHER_NAMES.get(name, name)
