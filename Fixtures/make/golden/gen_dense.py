"""Golden checkpoint of qwen2, and what transformers computes for every rope type.

    python gen_dense.py MODELS ROPES

MODELS: the folder of golden models; `qwen2` is written there, and `llama` is read. ROPES: the folder for `cases.json` (each case: the
members of config.json that are changed in `llama`; null takes one out) and `reference.safetensors`: `CASE.short.logits` and
`CASE.long.logits` F32 [8, vocabulary], the last 8 tokens of `short.input_ids` [48] and `long.input_ids` [160] run in one piece;
`CASE.short.frequencies`, `CASE.long.frequencies` F32 [pairs] and `CASE.magnitude` F32 [1]. Needs torch and transformers.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fxlib import *  # noqa

BASE = dict(vocab_size=256, hidden_size=64, num_hidden_layers=3, hidden_act='silu', rms_norm_eps=1e-6, max_position_embeddings=512,
            initializer_range=0.02, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, use_cache=True, torch_dtype='bfloat16',
            attention_dropout=0.0)
# The last layer has a window.
QWEN2 = dict(BASE, architectures=['Qwen2ForCausalLM'], model_type='qwen2', num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=96, rope_theta=1000000.0, use_sliding_window=True, sliding_window=16, max_window_layers=2)
SHORT = [1, 1.03, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7]
LONG = [1, 1.1, 1.5, 2, 3, 4, 6, 7.5]
CASES = {
    'default': {'rope_scaling': None},
    'linear': {'rope_scaling': {'type': 'linear', 'factor': 4.0}},
    'linear-parameters': {'rope_scaling': None, 'rope_theta': None,
                          'rope_parameters': {'rope_type': 'linear', 'factor': 2.5, 'rope_theta': 20000.0}},
    'dynamic': {'rope_scaling': {'rope_type': 'dynamic', 'factor': 2.0}, 'max_position_embeddings': 64},
    'yarn': {'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 64},
             'max_position_embeddings': 256},
    'yarn-outer': {'rope_scaling': {'rope_type': 'yarn', 'factor': 8.0, 'attention_factor': 1.2, 'beta_fast': 16.0, 'beta_slow': 2.0,
                                    'truncate': False, 'original_max_position_embeddings': 512},
                   'original_max_position_embeddings': 32},
    'llama3': {'rope_scaling': {'rope_type': 'llama3', 'factor': 4.0, 'low_freq_factor': 0.5, 'high_freq_factor': 2.0,
                                'original_max_position_embeddings': 128}},
    'longrope': {'rope_scaling': {'rope_type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG,
                                  'original_max_position_embeddings': 64}, 'max_position_embeddings': 256},
    'longrope-outer': {'rope_scaling': {'type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG, 'factor': 16.0,
                                        'original_max_position_embeddings': 512}, 'original_max_position_embeddings': 128},
    'longrope-attention': {'rope_scaling': {'rope_type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG,
                                            'attention_factor': 0.9, 'original_max_position_embeddings': 160}},
}


def ropes(models, target):
    os.makedirs(target, exist_ok=True)
    base = json.load(open(f'{models}/llama/config.json'))
    tensors = {}
    generator = torch.Generator().manual_seed(3122)
    ids = {name: torch.randint(3, 256, (1, length), generator=generator) for name, length in (('short', 48), ('long', 160))}
    tensors.update({f'{name}.input_ids': value for name, value in ids.items()})
    scratch = f'{target}/_model'
    for case, changes in CASES.items():
        config = {k: v for k, v in {**base, **changes}.items() if not (k in changes and v is None)}
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        json.dump(config, open(f'{scratch}/config.json', 'w'))
        shutil.copy(f'{models}/llama/model.safetensors', scratch)
        model = load_ref_model(scratch)
        rotary = model.model.rotary_emb
        for name, value in ids.items():
            with torch.no_grad():
                logits = model(input_ids=value, use_cache=False).logits.float()
            tensors[f'{case}.{name}.logits'] = logits[0, -8:].contiguous().clone()
            tensors[f'{case}.{name}.frequencies'] = rotary.inv_freq.float().clone()
        tensors[f'{case}.magnitude'] = torch.tensor([float(rotary.attention_scaling)])
    shutil.rmtree(scratch)
    save_file(tensors, f'{target}/reference.safetensors', metadata={'format': 'pt'})
    with open(f'{target}/cases.json', 'w') as file:
        file.write('{\n' + ',\n'.join(f'  {json.dumps(k)}: {json.dumps(v)}' for k, v in CASES.items()) + '\n}\n')


if __name__ == '__main__':
    models, target = sys.argv[1:3]
    make(models, 'qwen2', QWEN2, 3131, opt=dict(embed=0.25), script='gen_dense.py')
    note = f'{models}/qwen2/manifest.json'
    text = open(note).read().replace('Infinity', 'null')  # no choice of experts, no gap: JSON has no infinity
    open(note, 'w').write(text)
    ropes(models, target)
