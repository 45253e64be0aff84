"""Golden checkpoint of a small Gemma 4: embeddings of the layers' own, shared keys and values, wider dense layers.

    python gen_gemma4.py MODELS CONFIGS

MODELS: the folder of golden models; `gemma4_e2b` is written there. CONFIGS: the folder for config.json as transformers saves it. Seven
layers, sliding but for the fourth and the last; the last three use the keys of the last sliding and the last full layer before them, and
have a dense layer of twice the width. Weights are random. Needs torch and transformers.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fxlib import *  # noqa
from transformers import Gemma4ForConditionalGeneration, Gemma4Config

NAME = 'gemma4_e2b'
SEED = 3161
S, F = 'sliding_attention', 'full_attention'
TEXT = dict(model_type='gemma4_text', vocab_size=256, hidden_size=64, intermediate_size=48, num_hidden_layers=7,
            layer_types=[S, S, S, F, S, S, F], num_attention_heads=4, num_key_value_heads=1, num_global_key_value_heads=None, head_dim=16,
            global_head_dim=32, attention_k_eq_v=False, attention_bias=False, attention_dropout=0.0, sliding_window=12,
            hidden_activation='gelu_pytorch_tanh', rms_norm_eps=1e-6, max_position_embeddings=512, initializer_range=0.02,
            tie_word_embeddings=True, use_cache=True, final_logit_softcapping=4.0, hidden_size_per_layer_input=24,
            vocab_size_per_layer_input=256, num_kv_shared_layers=3, use_double_wide_mlp=True, enable_moe_block=False, num_experts=None,
            top_k_experts=None, moe_intermediate_size=None, use_bidirectional_attention=None, bos_token_id=2, eos_token_id=1,
            pad_token_id=0, dtype='bfloat16',
            rope_parameters={F: dict(partial_rotary_factor=0.25, rope_theta=1000000.0, rope_type='proportional'),
                             S: dict(rope_theta=10000.0, rope_type='default')})
CONFIG = dict(architectures=['Gemma4ForConditionalGeneration'], model_type='gemma4', audio_config=None, vision_config=None,
              audio_token_id=258881, boa_token_id=256000, boi_token_id=255999, eoi_token_id=258882, eoa_token_index=258883,
              image_token_id=258880, video_token_id=258884, vision_soft_tokens_per_image=4, tie_word_embeddings=True,
              eos_token_id=[1, 2], dtype='bfloat16', text_config=TEXT)


def fill(model):
    """Random weights whose every part shows in the logits, exact in bfloat16."""
    generator = torch.Generator().manual_seed(SEED)
    named = dict(model.named_parameters())
    named.update((n, b) for n, b in model.named_buffers() if n.endswith('layer_scalar'))
    with torch.no_grad():
        for name in sorted(named):
            p = named[name]
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith('layer_scalar'):
                value = 0.7 + 0.5 * torch.rand(p.shape, generator=generator)
            elif 'norm' in name:
                value = (1 + 0.25 * noise).clamp(min=0.2)
            elif 'embed_tokens_per_layer' in name:
                value = 0.3 * noise
            elif 'embed_tokens' in name:
                value = 0.12 * noise
            else:
                value = 1.2 * noise / p.shape[-1] ** 0.5
            # Logits of attention are not divided by anything: these keep them from being all or nothing.
            if name.endswith(('q_norm.weight', 'k_norm.weight')):
                value = value * 0.6
            p.copy_(value.to(BF).float())


def main(models, configs):
    folder = f'{models}/{NAME}'
    shutil.rmtree(folder, ignore_errors=True)
    config = Gemma4Config(**CONFIG)
    config._attn_implementation = 'eager'
    model = Gemma4ForConditionalGeneration(config).float().eval()
    model.set_attn_implementation('eager')
    fill(model)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('lm_head')}
    write_ckpt(folder, CONFIG, cast_pub(state))
    scratch = f'{folder}/_saved'
    config.save_pretrained(scratch)
    shutil.move(f'{scratch}/config.json', f'{configs}/{NAME}.json')
    shutil.rmtree(scratch)
    # What is on disk is what runs.
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager').eval()
    tensors, info = {}, {}
    for tag, shape in (('short', (2, 48)), ('long', (1, 160))):
        ids = torch.randint(3, 256, shape, generator=torch.Generator().manual_seed(SEED + len(tag)))
        hidden = {}
        hooks = [layer.register_forward_hook(lambda m, a, o, i=i: hidden.__setitem__(
            i, (o[0] if isinstance(o, tuple) else o).detach().clone())) for i, layer in enumerate(model.model.language_model.layers)]
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits.float()
        for hook in hooks:
            hook.remove()
        tensors[f'{tag}.input_ids'], tensors[f'{tag}.logits'] = ids, logits
        tensors.update({f'{tag}.hidden.{i}': h.contiguous() for i, h in hidden.items()})
        info[tag] = dict(logits_std=round(logits.std().item(), 3),
                         hidden_rms=[round(hidden[i].pow(2).mean().sqrt().item(), 3) for i in range(len(hidden))])
    # A continuation whose every choice is clear.
    for attempt in range(400):
        prompt = torch.randint(3, 256, (1, 16), generator=torch.Generator().manual_seed(SEED + 7919 * attempt))
        ids, margins = prompt, []
        with torch.no_grad():
            for _ in range(24):
                best = model(input_ids=ids, use_cache=False).logits[0, -1].float().topk(2)
                margins.append((best.values[0] - best.values[1]).item())
                if margins[-1] < 0.02:
                    break
                ids = torch.cat([ids, best.indices[:1].view(1, 1)], 1)
        if len(margins) == 24 and min(margins) >= 0.02:
            break
    assert ids.shape[1] == 40, 'no clear continuation'
    tensors['greedy.prompt_ids'], tensors['greedy.output_ids'] = prompt, ids[:, 16:].contiguous()
    cached = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, min_new_tokens=24, do_sample=False,
                            eos_token_id=None, pad_token_id=0)
    info['greedy'] = dict(attempt=attempt, min_logit_margin=round(min(margins), 4), distinct=int(ids[0, 16:].unique().numel()),
                          cached_equals_uncached=bool((cached[:, 16:] == ids[:, 16:]).all()))
    info['tensors'] = len(state)
    save_file(tensors, f'{folder}/reference.safetensors', metadata={'format': 'pt'})
    manifest(folder, info, 'gen_gemma4.py', SEED)
    print(info)


main(*sys.argv[1:])
