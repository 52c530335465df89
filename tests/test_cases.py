"""Fifteen faults that were found from outside, each as it was met: what a user did, and what is right.

Others of their kinds are tested beside what they are about (`test_sources.py`, `test_inputs.py`, notebooks)."""
import io
import json
import os
import warnings
from collections import namedtuple
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from archsae.sae import SAE, BatchTopKSAE, JumpSAE, RATopKSAE, TopKSAE
from archsae.training import evaluate, fit, mse, train_sae

D, K = 16, 32
ONE_PASS = dict(epochs=1, progress=False, device='cpu')


@pytest.fixture
def A():
    return torch.randn(512, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def few_steps_are_meant():
    "Short trainings say that they are short."
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='fit: ')
        yield


# ---- training

@pytest.mark.parametrize('kind', [SAE, JumpSAE, TopKSAE, BatchTopKSAE, RATopKSAE])
def test_bfloat16_on_a_cpu(kind, A):
    "torch has no sampled product in bfloat16 on a CPU (pytorch/pytorch#165056): the sparse path needs another way."
    torch.manual_seed(0)
    how = dict(SAE=(), JumpSAE=(), RATopKSAE=(A[:64], 4)).get(kind.__name__, (4,))
    sae = kind(D, 64, *how)
    fit(sae, A, bf16=True, **ONE_PASS | dict(epochs=2))
    assert evaluate(sae, A)['r2'] > -1 and all(p.isfinite().all() for p in sae.parameters())


@pytest.mark.parametrize('kind', ['half', 'bfloat16', 'double', 'numpy'])
def test_evaluate_takes_what_fit_takes(kind, A):
    torch.manual_seed(0)
    X, sae = getattr(A, kind)(), TopKSAE(D, K, 4)
    fit(sae, X, **ONE_PASS)
    assert abs(evaluate(sae, X)['r2'] - evaluate(sae, torch.as_tensor(X).float())['r2']) < 1e-2


class Stream(torch.utils.data.IterableDataset):
    "Rows without end and without length."

    def __iter__(self):
        return (torch.randn(D) for _ in range(256))


def test_a_stream_without_a_length():
    "A DataLoader over an IterableDataset has `__len__`, which raises TypeError."
    sae = TopKSAE(D, K, 4)
    loader = torch.utils.data.DataLoader(Stream(), batch_size=64)
    logs = train_sae(sae, loader, mse, torch.optim.Adam(sae.parameters()), nb_epochs=2)
    assert len(logs['step_loss']) == 8 and np.isfinite(logs['step_loss']).all()


def test_jumprelu_by_default_becomes_sparser():
    "About four concepts a token; the defaults once went from 58 active latents to 74."
    torch.manual_seed(0)
    concepts = F.normalize(torch.randn(64, 32), dim=1)
    Z = torch.rand(6000, 64) * (torch.rand(6000, 64) < .06)
    X = Z @ concepts
    X = (X - X.mean(0)) / X.std(0)
    torch.manual_seed(1)
    log = fit(JumpSAE(32, 128), X, epochs=20, batch_size=256, progress=False, device='cpu')
    first, last = log['z_sparsity'][0], log['z_sparsity'][-1]
    assert last < first / 2


@pytest.mark.parametrize('make', [
    lambda: TopKSAE(D, K, 4).tied(), lambda: BatchTopKSAE(D, K, 4).tied(bias=True), lambda: SAE(D, K).untied(),
])
@pytest.mark.parametrize('how', [{}, dict(match_scale=None)])
def test_tied_weights_are_trained(make, how, A):
    torch.manual_seed(0)
    sae = make()
    before = sae.get_dictionary().detach().clone()
    fit(sae, A, **ONE_PASS, **how)
    assert not torch.equal(before, sae.get_dictionary())


def test_validation_in_inference_mode_between_two_steps(A):
    "Lightning's default: nothing that is made inside may be kept for the next step."
    torch.manual_seed(0)
    sae = RATopKSAE(D, K, A[:32], 4)
    optimizer = torch.optim.Adam(sae.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        loss = (sae(A).x_hat - A).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    first = step()
    with torch.inference_mode():
        sae.eval()
        assert torch.isfinite(sae(A).x_hat).all()
        sae.train()
    assert step() < first


# ---- keeping

@pytest.mark.parametrize('make', [
    lambda A: RATopKSAE(D, K, A[:32], 4), lambda A: TopKSAE(D, K, 4), lambda A: TopKSAE(D, K, 4).tied(),
    lambda A: SAE(D, K), lambda A: JumpSAE(D, K), lambda A: BatchTopKSAE(D, K, 4).set_threshold(.1).eval(),
])
def test_a_whole_model_through_torch_save(make, A):
    "overcomplete's users save whole modules; spawned processes pickle them."
    sae, buffer = make(A), io.BytesIO()
    torch.save(sae, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=False)
    assert type(back) is type(sae) and torch.equal(back(A).x_hat, sae(A).x_hat)


@pytest.mark.parametrize('architecture', ['topk', 'standard'])
def test_topk_of_older_saelens(architecture, tmp_path):
    "SAELens 3 to 5 wrote k into `activation_fn_kwargs`; the activation decides, whatever the architecture is called."
    from safetensors.torch import save_file

    from archsae.checkpoints import load_saelens

    g, k, wide = torch.Generator().manual_seed(0), 8, 128
    weights = dict(W_enc=torch.randn(D, wide, generator=g), W_dec=torch.randn(wide, D, generator=g),
                   b_enc=torch.zeros(wide), b_dec=torch.zeros(D))
    save_file(weights, tmp_path/'sae_weights.safetensors')
    (tmp_path/'cfg.json').write_text(json.dumps(dict(
        architecture=architecture, activation_fn_str='topk', activation_fn_kwargs={'k': k}, d_in=D, d_sae=wide,
        dtype='float32', device='cpu', hook_name='blocks.8.hook_resid_pre', apply_b_dec_to_input=False,
        normalize_activations='none', sae_lens_training_version='4.0.0')))
    codes = load_saelens(tmp_path).encode(torch.randn(200, D, generator=g))
    assert (codes != 0).sum(1).max() == k


# ---- pictures

@pytest.mark.parametrize('name', ['grey16.png', 'grey16.tif', 'float.tif'])
def test_deep_pictures_keep_their_shades(name, tmp_path):
    "X-rays, microscopes and depth cameras; `convert('RGB')` turns them white."
    Image = pytest.importorskip('PIL.Image')
    from archsae.vision import Photos

    ramp = np.linspace(0, 1, 64)[None].repeat(64, 0)
    pixels = ramp.astype(np.float32) if name.startswith('float') else (ramp * 65535).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path/name)

    def frame(image):
        return torch.from_numpy(np.array(image)).float() / 255
    x = Photos([tmp_path/name], frame)[0]
    assert len(x.unique()) == 64 and abs(x.mean() - .5) < .01


@pytest.mark.parametrize('ending', ['bmp', 'ppm', 'tif'])
def test_an_edited_picture_gives_new_tokens(ending, tmp_path, monkeypatch):
    "A mask painted below the top rows: same name, same size, same first 4096 bytes."
    pytest.importorskip('timm')
    Image = pytest.importorskip('PIL.Image')
    from archsae import vision

    monkeypatch.setenv('ARCHSAE_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(vision, 'progress', lambda steps, *args, **options: steps)
    rng, path = np.random.default_rng(0), tmp_path/'pictures'/'a'/f'0.{ending}'
    path.parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(path)

    def tokens():
        size = dict(input_size=(3, 64, 64))
        return vision.image_tokens('test_resnet', tmp_path/'pictures', pretrained=False, device='cpu', data=size).raw()
    before = tokens().clone()
    os.utime(path, (1, 1))
    pixels = np.array(Image.open(path))
    pixels[20:76] = 0
    Image.fromarray(pixels).save(path)
    assert not torch.equal(before, tokens())


@pytest.mark.parametrize('names', [
    ['cat/1.png', 'dog/1.png', '.ipynb_checkpoints/1-checkpoint.png'],
    ['1.png', '2.png', '.ipynb_checkpoints/1-checkpoint.png'],
    ['cat/1.png', 'dog/1.png', 'cat/.ipynb_checkpoints/1-checkpoint.png'],
])
def test_jupyters_hidden_copies_are_no_pictures(names, tmp_path):
    Image = pytest.importorskip('PIL.Image')
    from archsae.vision import image_files

    for name in names:
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path/name)
    files, labels, classes = image_files(tmp_path)
    assert len(files) == 2 and len(classes) == len(set(labels.tolist()))


# ---- language

def test_opt_is_a_language_model_too():
    "Its final norm sits in its decoder, and a hook on a block has nothing to do with that."
    tf = pytest.importorskip('transformers')
    from archsae.language import activation_batches

    config = tf.OPTConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64,
                          word_embed_proj_dim=32, max_position_embeddings=64)
    model, ids = tf.AutoModelForCausalLM.from_config(config).eval(), torch.randint(5, 300, (2, 16))
    rows = next(activation_batches(model, ids, torch.ones_like(ids).bool(), ['blocks.0'], show=False))['blocks.0']
    want = model(ids, output_hidden_states=True).hidden_states[1].flatten(0, 1)
    assert torch.equal(rows, want)


Answer = namedtuple('Answer', 'hidden other')


class Block(nn.Module):
    "A block that answers as it is told to."

    def __init__(self, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(8, 8), kind

    def forward(self, x):
        from transformers.modeling_outputs import BaseModelOutput

        y = self.linear(x)
        kinds = {'named tuple': Answer(y, 1), 'tuple': (y, None), 'list': [y, 1], 'tensor': y,
                 'dict': dict(hidden_states=y, other=1), 'answer': BaseModelOutput(last_hidden_state=y)}
        return kinds[self.kind]


class Toy(nn.Module):
    "Two such blocks; it goes on only with the kind of answer that they give."

    def __init__(self, kind):
        from transformers import PretrainedConfig

        super().__init__()
        self.layers = nn.ModuleList([Block(kind) for _ in range(2)])
        self.norm, self.kind = nn.LayerNorm(8), kind
        self.config = PretrainedConfig(num_hidden_layers=2)

    @property
    def base_model(self):
        return self

    def forward(self, x):
        for block in self.layers:
            a = block(x)
            taken = {'named tuple': lambda: a.hidden, 'answer': lambda: a.last_hidden_state, 'tensor': lambda: a,
                     'dict': lambda: a['hidden_states'], 'tuple': lambda: a[0], 'list': lambda: a[0]}
            x = taken[self.kind]()
        return self.norm(x)


@pytest.mark.parametrize('kind', ['named tuple', 'answer', 'tuple', 'list', 'dict', 'tensor'])
def test_the_kind_of_an_answer_is_kept(kind):
    "A hook that turns a named tuple into a tuple breaks the model (meta-pytorch/captum#195)."
    pytest.importorskip('transformers')
    from archsae.language import reading, splicing

    model, x = Toy(kind), torch.randn(1, 3, 8)
    want = model(x)
    with reading(model, ['blocks.0', 'blocks.1.in']) as seen:
        assert torch.equal(model(x), want)
    assert torch.equal(seen['blocks.0'], model.layers[0].linear(x))
    assert torch.equal(seen['blocks.1.in'], seen['blocks.0'])
    for hook in ('blocks.0', 'blocks.1.in'):
        with splicing(model, hook, lambda v: v):
            assert torch.equal(model(x), want)
        with splicing(model, hook, lambda v: 2 * v):
            assert torch.allclose(model(x), model.norm(model.layers[1].linear(2 * model.layers[0].linear(x))))


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    from archsae.language import read_texts

    (tmp_path/'bom.txt').write_bytes(b'\xef\xbb\xbfhello\r\nworld\r\n')
    assert read_texts(tmp_path/'bom.txt', split='\n') == ['hello', 'world']


def test_a_tokenizer_without_an_end_of_text():
    "Othello, chess, DNA: no token may stand between texts that then counts as text."
    tf, tk = pytest.importorskip('transformers'), pytest.importorskip('tokenizers')
    from archsae.language import pack

    bytes_alone = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok = tk.Tokenizer(tk.models.BPE())
    tok.pre_tokenizer = bytes_alone
    trainer = tk.trainers.BpeTrainer(vocab_size=300, show_progress=False,
                                     initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(['hello world this is a test ' * 10], trainer)
    tok = tf.PreTrainedTokenizerFast(tokenizer_object=tok)
    text = 'hello world this is a test'
    assert 0 not in tok(text)['input_ids']
    for packing in ('stream', 'each'):
        packed = pack(tok, [text] * 6, 8, packing)
        assert packed.keep.any() and not (packed.ids[packed.keep] == 0).any()
