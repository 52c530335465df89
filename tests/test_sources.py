"""Where activations come from, as users have it: odd pictures, folders, file names, networks.

What a notebook cannot show: real files of many kinds, and many networks."""
import os
import sys
import warnings
import numpy as np
import pytest
import torch

pytest.importorskip('timm')
Image = pytest.importorskip('PIL.Image')
vision = pytest.importorskip('archsae.vision')
from archsae.core import seeded  # noqa: E402

UNTRAINED = dict(pretrained=False, device='cpu')


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('ARCHSAE_CACHE', str(tmp_path_factory.mktemp('cache')))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr(vision, 'progress', lambda steps, *args, **options: steps)


def paint(path, seed=0, size=(64, 48), **how):
    "A picture of noise at a path."
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **how)
    return path


@pytest.fixture
def folder(tmp_path):
    "Two classes of two pictures each."
    for i, name in enumerate(('a/0.png', 'a/1.png', 'b/0.png', 'b/1.png')):
        paint(tmp_path/'pictures'/name, i)
    return tmp_path/'pictures'


def tokens(folder, **options):
    return vision.image_tokens('test_resnet', folder, **UNTRAINED | options)


# ---- pictures

RAMP = np.linspace(0, 1, 64)[None].repeat(48, 0)
DEEP = {  # file, its numbers
    'grey16.png': (RAMP * 65535).round().astype(np.uint16),
    'grey16.tif': (RAMP * 65535).round().astype(np.uint16),
    'big-endian.tif': (RAMP * 65535).round().astype('>u2'),
    'twelve-bits.png': (RAMP * 4095).round().astype(np.uint16),
    'int32.tif': (RAMP * 65535).round().astype(np.int32),
    'large-int32.tif': (RAMP * 2e9).round().astype(np.int32),
    'hounsfield.tif': (RAMP * 4000 - 1000).round().astype(np.int32),
    'unit-float.tif': RAMP.astype(np.float32),
    'float-of-255.tif': (RAMP * 255).round().astype(np.float32),
    'metres.tif': (RAMP * 8.25 + .5).astype(np.float32),
    'tiny-float.tif': (RAMP * 3e-9 - 1e-9).astype(np.float32),
}


@pytest.mark.parametrize('name', DEEP)
def test_more_than_eight_bits_are_scaled_by_their_range(name, tmp_path):
    Image.fromarray(DEEP[name]).save(tmp_path/name)
    for gray in (True, False):
        got = np.asarray(vision.read_picture(tmp_path/name, gray))
        want = RAMP if gray else RAMP[..., None]
        assert np.abs(got / 255 - want).max() < 1 / 128


def test_a_constant_or_broken_deep_picture(tmp_path):
    Image.fromarray(np.full((4, 4), 7., np.float32)).save(tmp_path/'constant.tif')
    assert np.asarray(vision.read_picture(tmp_path/'constant.tif')).std() == 0
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path/'nan.tif')
    with pytest.raises(ValueError, match=r'nan\.tif: ValueError: NaN or Inf among its pixels'):
        vision.Photos([tmp_path/'nan.tif'], None)[0]


def red_square():
    "A picture (16, 16), red on the left and blue on the right, lighter at the top."
    x = np.zeros((16, 16, 3), np.uint8)
    x[:, :8, 0] = 200
    x[:, 8:, 2] = 200
    x[:4] += 55
    return Image.fromarray(x)


@pytest.mark.parametrize('mode, ending', [
    ('P', 'png'), ('P', 'gif'), ('CMYK', 'tif'), ('RGBA', 'png'), ('YCbCr', 'jpg'), ('RGB', 'webp'), ('RGB', 'ppm'),
    ('CMYK', 'jpg'),
])
def test_colours_survive_every_mode(mode, ending, tmp_path):
    image, lossy = red_square(), ending in ('jpg', 'webp')
    image.convert(mode).save(tmp_path/f'x.{ending}', **dict(quality=95, subsampling=0) if ending == 'jpg' else {})
    got = np.asarray(vision.read_picture(tmp_path/f'x.{ending}')).astype(float)
    assert got.shape == (16, 16, 3)
    away = np.abs(got - np.asarray(image)).mean()
    assert away < (12 if lossy else 6)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'PA'])
def test_greys_survive_every_mode(mode, tmp_path):
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:, 8:] = 255
    image = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(np.asarray(vision.as_seen(image.copy(), gray=True)), pixels)
    if mode != 'PA':  # which no format of PIL writes
        image.save(tmp_path/'x.tif')
        assert np.array_equal(np.asarray(vision.read_picture(tmp_path/'x.tif', gray=True)), pixels)


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = 255, 0, 0, 255  # the left half is transparent, over black that nobody sees
    Image.fromarray(pixels).save(tmp_path/'x.png')
    got = np.asarray(vision.read_picture(tmp_path/'x.png'))
    assert (got[:, :4] == 255).all() and (got[:, 4:] == (255, 0, 0)).all()
    palette = red_square().convert('P', palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path/'p.png', transparency=palette.getpixel((0, 15)))
    got = np.asarray(vision.read_picture(tmp_path/'p.png'))
    assert (got[8:, :8] == 255).all() and got[8:, 8:, 2].mean() > 150


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('ending', ['jpg', 'png', 'tif'])
def test_a_turned_camera(orientation, ending, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x112] = orientation
    red_square().resize((32, 16)).save(tmp_path/f'x.{ending}', exif=exif)
    got = vision.read_picture(tmp_path/f'x.{ending}')
    with Image.open(tmp_path/f'x.{ending}') as image:
        want = ImageOps.exif_transpose(image)
    assert got.size == want.size == ((32, 16) if orientation < 5 else (16, 32))
    assert np.array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize('ending', ['gif', 'tif', 'png', 'webp'])
def test_of_several_frames_the_first_counts(ending, tmp_path):
    frames = [Image.new('RGB', (8, 8), color) for color in ('white', 'black')]
    frames[0].save(tmp_path/f'x.{ending}', save_all=True, append_images=frames[1:])
    assert np.asarray(vision.read_picture(tmp_path/f'x.{ending}')).min() > 250


# ---- folders

@pytest.mark.parametrize('hidden', ['.ipynb_checkpoints/1-checkpoint.png', 'a/.thumbnails/x.png', 'a/deep/.git/x.png',
                                    'a/._0.png', '__MACOSX/a/0.png', 'a/@eaDir/0.png', '.hidden.png'])
def test_hidden_things_are_no_pictures_and_no_classes(hidden, folder):
    paint(folder/hidden)
    (folder/'.DS_Store').write_bytes(b'x')
    (folder/'a'/'.DS_Store').write_bytes(b'x')
    files, labels, names = vision.image_files(folder)
    assert names == ('a', 'b') and labels.tolist() == [0, 0, 1, 1] and len(files) == 4


def test_the_folder_given_may_be_hidden_itself(folder, tmp_path, monkeypatch):
    folder.rename(tmp_path/'.pictures')
    assert len(vision.image_files(tmp_path/'.pictures')[0]) == 4
    monkeypatch.setenv('HOME', str(tmp_path))
    assert len(vision.image_files('~/.pictures')[0]) == 4
    assert len(tokens('~/.pictures').labels) == 4


def test_linked_classes_are_followed(folder, tmp_path):
    (tmp_path/'subset').mkdir()
    for name in ('a', 'b'):
        (tmp_path/'subset'/name).symlink_to(folder/name, target_is_directory=True)
    files, labels, names = vision.image_files(tmp_path/'subset')
    assert names == ('a', 'b') and labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(tokens(tmp_path/'subset').A, tokens(folder).A)


def test_links_in_circles_end(folder):
    for place, target in (('a/up', folder), ('b/self', folder/'b'), ('a/b', folder/'b'), ('b/a', folder/'a'),
                          ('all', folder)):
        (folder/place).symlink_to(target, target_is_directory=True)
    (folder/'a'/'circle.png').symlink_to('circle.png')
    files, labels, names = vision.image_files(folder)
    assert names == ('a', 'b')
    assert len(files) == 10  # each class has its own two, the other's two, and a link to itself that is no picture
    with pytest.raises(ValueError, match='circle.png'):
        tokens(folder)
    with pytest.warns(UserWarning, match='2 of 10 images'):
        assert len(tokens(folder, bad_images='leave out').labels) == 8


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes here')
def test_pipes_and_folders_by_the_name_of_a_picture(folder):
    os.mkfifo(folder/'a'/'pipe.png')
    (folder/'a'/'folder.png').mkdir()
    (folder/'a'/'link.png').symlink_to(folder/'a'/'pipe.png')
    assert len(vision.image_files(folder)[0]) == 4


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere names are Unicode')
def test_names_that_are_not_utf8(folder, capsys):
    odd = os.fsencode(folder) + b'/caf\xe9'
    os.mkdir(odd)
    for i in range(2):
        os.rename(paint(folder/f'{i}.png', i), odd + b'/\xff%d.png' % i)
    acts = tokens(folder)
    assert acts.names == ('a', 'b', 'caf\\xe9') and acts.labels.tolist() == [0, 0, 1, 1, 2, 2]
    with open(odd + b'/\xff0.png', 'wb') as f:
        f.write(b'no picture')
    with pytest.raises(ValueError) as e:
        tokens(folder)
    print(e.value)  # a message with half a character could not be printed
    assert 'caf\\xe9/\\xff0.png' in capsys.readouterr().out
    with pytest.warns(UserWarning, match='1 of 6 images'):
        assert len(tokens(folder, bad_images='leave out').labels) == 5
    os.rename(odd, os.fsencode(folder.parent) + b'/only\xe9')
    loose = os.fsdecode(os.fsencode(folder.parent) + b'/only\xe9')
    os.remove(os.fsencode(loose) + b'/\xff0.png')
    assert tokens(loose).source == 'images:test_resnet:only\\xe9'


@pytest.mark.parametrize('bad', [None, 5, ['a'], b'x', object()])
def test_no_folder_at_all(bad):
    with pytest.raises((ValueError, FileNotFoundError), match='folder: expected'):
        vision.image_files(bad)


def test_a_folder_that_may_not_be_read(folder):
    (folder/'b').chmod(0)
    try:
        if os.access(folder/'b', os.R_OK):
            pytest.skip('this user may read everything')
        with pytest.raises(ValueError, match='folder: expected folders that can be read; got .*b: Permission'):
            vision.image_files(folder)
    finally:
        (folder/'b').chmod(0o755)


# ---- damaged pictures

def spoil(path, how):
    whole = path.read_bytes()
    spoilt = dict(
        cut=whole[:len(whole) // 2], empty=b'', text=b'hello', head=whole[:20], zeros=bytes(len(whole)),
        flipped=whole[:60] + bytes(b ^ 255 for b in whole[60:]),
    )
    path.unlink() if how == 'missing' else path.write_bytes(spoilt[how])
    if how == 'missing':
        path.symlink_to('nowhere.png')


@pytest.mark.parametrize('how', ['cut', 'empty', 'text', 'head', 'zeros', 'flipped', 'missing'])
@pytest.mark.parametrize('ending', ['png', 'jpg'])
def test_one_damaged_picture(how, ending, folder):
    spoil(paint(folder/'a'/f'2.{ending}'), how)
    with pytest.raises(ValueError, match=rf"folder: expected images that can be read; got .*a/2\.{ending}: .*"
                                         "bad_images='leave out'"):
        tokens(folder)
    with pytest.warns(UserWarning, match=rf'1 of 5 images cannot be read and are left out: a/2\.{ending}'):
        left = tokens(folder, bad_images='leave out')
    assert left.labels.tolist() == [0, 0, 1, 1]
    assert f'left out: a/2.{ending}' in left.note
    (folder/'a'/f'2.{ending}').unlink()
    assert torch.equal(tokens(folder).A, left.A)


def test_leaving_out_what_is_not_damaged_changes_nothing(folder):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert torch.equal(tokens(folder).A, tokens(folder, bad_images='leave out').A)
    with pytest.raises(ValueError, match='bad_images: expected one of stop, leave out; got'):
        tokens(folder, bad_images='skip')
    for path in folder.rglob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='folder: expected images that can be read; got 4 of 4'):
        tokens(folder, bad_images='leave out')


# ---- the cache notices edits

@pytest.mark.parametrize('ending', ['bmp', 'ppm', 'tif', 'png'])
@pytest.mark.parametrize('linked', [False, True])
def test_a_picture_that_was_edited(ending, linked, tmp_path):
    original = paint(tmp_path/'elsewhere'/f'0.{ending}', size=(96, 96))
    pictures = tmp_path/'pictures'/'a'
    pictures.mkdir(parents=True)
    (pictures/f'0.{ending}').symlink_to(original) if linked else original.rename(pictures/f'0.{ending}')
    before, path = tokens(tmp_path/'pictures').raw().clone(), pictures/f'0.{ending}'
    assert torch.equal(before, tokens(tmp_path/'pictures').raw())
    size, pixels = path.stat().st_size, np.array(Image.open(path))
    pixels[40:] = 0  # below the first 4096 bytes
    Image.fromarray(pixels).save(path.resolve())
    assert ending == 'png' or path.stat().st_size == size
    assert not torch.equal(before, tokens(tmp_path/'pictures').raw())


def test_a_change_within_one_second_is_noticed(tmp_path):
    path = paint(tmp_path/'x.bmp')
    os.utime(path, ns=(10**18, 10**18))
    before = vision.fingerprint([path], tmp_path)
    os.utime(path, ns=(10**18, 10**18 + 1000))
    assert vision.fingerprint([path], tmp_path) != before


# ---- networks

SMALL = {  # a small model of each family that chapter `vision` names; what makes it smaller
    'beit_base_patch16_224': dict(depth=1), 'cait_xxs24_224': dict(depth=1), 'convit_tiny': {}, 'convnext_atto': {},
    'convnextv2_atto': {}, 'davit_tiny': dict(depths=(1, 1, 1, 1)), 'deit3_small_patch16_224': dict(depth=1),
    'deit_tiny_distilled_patch16_224': dict(depth=1), 'deit_tiny_patch16_224': dict(depth=1), 'densenet121': {},
    'edgenext_xx_small': {}, 'efficientnet_b0': {}, 'eva02_tiny_patch14_224': dict(depth=1), 'focalnet_tiny_srf': {},
    'hiera_tiny_224': {}, 'mambaout_femto': {}, 'maxvit_pico_rw_256': {}, 'mixer_s16_224': {}, 'mobilenetv2_035': {},
    'mobilenetv3_small_050': {}, 'mobilevit_xxs': {}, 'mvitv2_tiny': {}, 'poolformerv2_s12': {}, 'pvt_v2_b0': {},
    'regnetx_002': {}, 'resmlp_12_224': {}, 'resnet18': {}, 'resnetv2_18': {},
    'swin_tiny_patch4_window7_224': dict(depths=(1, 1, 1, 1)), 'swinv2_cr_tiny_224': dict(depths=(1, 1, 1, 1)),
    'swinv2_tiny_window8_256': dict(depths=(1, 1, 1, 1)), 'tnt_s_legacy_patch16_224': dict(depth=1),
    'twins_svt_small': {}, 'vit_base_patch14_reg4_dinov2': dict(depth=1, img_size=224),
    'vit_base_patch16_siglip_224': dict(depth=1), 'vit_srelpos_small_patch16_224': dict(depth=1),
    'vit_tiny_patch16_224': dict(depth=1), 'vit_tiny_r_s16_p8_224': dict(depth=1), 'volo_d1_224': {},
}
MIXING = 'efficientformer_l1', 'xcit_nano_12_p8_224'  # untrained, their tokens listen to everything
PREFIX = dict(  # what stands before the grid, by what their papers say; the others have nothing
    beit_base_patch16_224=1, cait_xxs24_224=1, convit_tiny=1, deit3_small_patch16_224=1,
    deit_tiny_distilled_patch16_224=2, deit_tiny_patch16_224=1, eva02_tiny_patch14_224=1, tnt_s_legacy_patch16_224=1,
    vit_base_patch14_reg4_dinov2=5, vit_tiny_patch16_224=1, vit_tiny_r_s16_p8_224=1, volo_d1_224=1,
    xcit_nano_12_p8_224=1,
)


def heard_from(net, size):
    """Where in the image the four corner tokens listen: for each (row is last, column is last) -> (y, x) in [0, 1].

    The mean place of the squared derivative of a token by the pixels, of what it has beyond the other corners: one
    that attends to everything listens everywhere a little."""
    with seeded(1):
        x = torch.randn(1, 3, *size).requires_grad_()
        found, grid, prefix = vision.model_tokens(net, net.forward_features(x), size)
        along = torch.randn(found.shape[2])
    (h, w), shares = grid, {}
    for r, c in ((0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1)):
        by_pixel, = torch.autograd.grad((found[0, prefix + r * w + c] * along).sum(), x, retain_graph=True)
        share = by_pixel[0].double().square().sum(0)
        shares[r > 0, c > 0] = share / share.sum()
    places, common = {}, torch.stack([*shares.values()]).mean(0)
    for corner, share in shares.items():
        beyond = (share - common).clamp_min(0)
        beyond = beyond / beyond.sum()
        places[corner] = [(beyond.sum(1 - i) @ torch.linspace(0, 1, size[i]).double()).item() for i in (0, 1)]
    return grid, prefix, found.shape[1], places


@pytest.mark.parametrize('name', SMALL)
def test_tokens_stand_where_they_should(name):
    import timm

    with seeded(0):
        net = timm.create_model(name, **SMALL[name]).eval().requires_grad_(False)
    built = getattr(getattr(net, 'patch_embed', None), 'img_size', None)
    size = tuple(built or timm.data.resolve_model_data_config(net)['input_size'][1:])
    grid, prefix, t, places = heard_from(net, size)
    assert prefix == PREFIX.get(name, 0) == len(vision.prefix_kinds(net, prefix))
    assert t == prefix + grid[0] * grid[1] and grid[0] == grid[1]
    for (low, right), (y, x) in places.items():
        assert (y > .5, x > .5) == (low, right), places


@pytest.mark.parametrize('name', MIXING)
def test_a_change_in_the_image_moves_the_token_there(name):
    import timm

    with seeded(0):
        net = timm.create_model(name).eval()
    with seeded(1):
        x, noise = torch.randn(1, 3, 224, 224), 5 * torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        before, (h, w), prefix = vision.model_tokens(net, net.forward_features(x), (224, 224))
        assert prefix == PREFIX.get(name, 0)
        for r, c in ((1, w - 2), (h - 2, 1)):
            rows, columns = slice(r * 224 // h, (r + 1) * 224 // h), slice(c * 224 // w, (c + 1) * 224 // w)
            changed = x.clone()
            changed[:, :, rows, columns] = noise[:, :, rows, columns]
            moved = vision.model_tokens(net, net.forward_features(changed), (224, 224))[0] - before
            found = divmod(moved.norm(dim=2)[0, prefix:].argmax().item(), w)
            assert max(abs(found[0] - r), abs(found[1] - c)) <= 1


WITHOUT_GRID = {  # what it answers; why that is no table of tokens
    'coat_tiny': 'one map of features, tokens of one grid; got list of 3: it reads the image at several scales',
    'crossvit_tiny_240': 'one map of features, tokens of one grid; got list of 2',
    'pit_ti_224': 'expected tokens on a grid with the sides of an image of 224 x 224; got 0 .* beside its 1 others',
}


@pytest.mark.parametrize('name', WITHOUT_GRID)
def test_what_has_no_grid_is_refused(name, folder):
    with pytest.raises(ValueError, match='model: .*' + WITHOUT_GRID[name]):
        vision.image_tokens(name, folder, **UNTRAINED)


def test_grids_of_images_that_are_not_square():
    net = torch.nn.Identity()
    assert vision.grid_of(net, 60, (160, 256)) == (6, 10)
    assert vision.grid_of(net, 36, (64, 144)) == (4, 9)  # and not 6 x 6
    assert vision.grid_of(net, 10 * 7, (149, 100)) == (10, 7)
    for t, size in ((47, (224, 224)), (0, (224, 224)), (37, (224, 112)), (48, None)):
        with pytest.raises(ValueError, match=f'model: expected tokens on a grid with the sides of .*; got {t} from'):
            vision.grid_of(net, t, size)


@pytest.mark.parametrize('name', ['test_vit', 'test_resnet', 'test_convnext'])
def test_a_network_for_grey_pictures(name, folder):
    import timm

    net = timm.create_model(name, in_chans=1).eval()
    acts = vision.image_tokens(net, folder, device='cpu')
    assert acts.pixels[0].shape[0] == 1
    path = folder/'a'/'0.png'
    grey = np.asarray(Image.open(path).convert('L'))
    Image.fromarray(grey).save(path)  # by luma, which is what the network was shown
    assert torch.allclose(vision.image_tokens(net, folder, device='cpu').raw(), acts.raw(), atol=1e-3)
    with pytest.raises(ValueError, match=r'data: expected a mean of 1 numbers.*; got \(0.5, 0.5, 0.5\)'):
        vision.image_tokens(net, folder, device='cpu', data=dict(mean=(.5,) * 3))


def test_settings_that_cannot_be_used(folder):
    cases = [
        (dict(std=(1., 1., 0.)), 'data: expected a std of 3 numbers'), ([], 'data: expected some of'),
        (dict(mean='grey'), 'data: expected a mean of 3'), (dict(interpolation='by hand'), 'data: expected'),
        (dict(input_size=(4, 64, 64)), 'data: expected a mean of 4 numbers'),
    ]
    for data, why in cases:
        with pytest.raises(ValueError, match=why):
            tokens(folder, data=data)
    import timm

    many = timm.create_model('test_resnet', in_chans=4).eval()
    with pytest.raises(ValueError, match=r'model: expected one that reads images of shape \(3, '):
        vision.image_tokens(many, folder, device='cpu')
    for bad in (torch.nn.Linear(2, 2), None, 5):
        with pytest.raises(ValueError, match='model: expected a'):
            vision.image_tokens(bad, folder, device='cpu')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['test_vit', 'test_resnet', 'test_convnext'])
def test_networks_in_half_precision(name, dtype, folder):
    import timm

    with seeded(0):
        net = timm.create_model(name).eval()
    want = vision.image_tokens(net, folder, device='cpu')
    got = vision.image_tokens(net.to(dtype), folder, device='cpu')
    assert got.A.dtype == torch.float32 and got.note == want.note
    away = (got.raw() - want.raw()).square().sum() / want.raw().square().sum()
    assert away < (1e-4 if dtype == torch.float16 else 1e-3)


def test_a_network_that_overflows_names_the_picture(folder):
    import timm

    with seeded(0):
        net = timm.create_model('test_resnet').eval()
    for path, shade in zip(sorted(folder.rglob('*.png')), (0, 8, 255, 0)):
        Image.new('RGB', (64, 64), (shade,) * 3).save(path)

    class Bright(torch.nn.Module):
        "As the network, but a bright picture leaves the range of float16."

        def __init__(self):
            super().__init__()
            self.net = net

        def forward_features(self, x):
            f = self.net.forward_features(x)
            return torch.where(x.mean((1, 2, 3), keepdim=True) > 1, (f + 1) * 1e6, f)
    said = (r'model: expected finite features; got NaN or Inf from Bright for 1 of 4 images looked at, '
            r'the first .*b/0\.png; torch.float16 ends at 65504: try float32')
    with pytest.raises(ValueError, match=said):
        vision.image_tokens(Bright().half(), folder, device='cpu', batch_size=4)


# ---- language models

tf = pytest.importorskip('transformers')
language = pytest.importorskip('archsae.language')

LLAMA = dict(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
GEMMA = LLAMA | dict(head_dim=8, query_pre_attn_scalar=8)
BERT = dict(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=66)
DECODERS = {  # transformers' name of the configuration -> sizes
    'GPT2': dict(vocab_size=300, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    'GPTNeo': dict(vocab_size=300, hidden_size=32, num_layers=3, num_heads=4, max_position_embeddings=64,
                   attention_types=[[['global', 'local', 'global'], 1]]),
    'GPTJ': dict(vocab_size=300, n_embd=32, n_layer=3, n_head=4, n_positions=64, rotary_dim=4),
    'GPTNeoX': BERT,
    'OPT': dict(vocab_size=300, hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4,
                max_position_embeddings=64, word_embed_proj_dim=32),
    'Bloom': dict(vocab_size=300, hidden_size=32, n_layer=3, n_head=4),
    'Falcon': dict(vocab_size=300, hidden_size=32, num_hidden_layers=3, num_attention_heads=4),
    'Llama': LLAMA, 'Mistral': LLAMA, 'Qwen2': LLAMA, 'Qwen3': LLAMA | dict(head_dim=8), 'Phi': LLAMA,
    'Phi3': LLAMA | dict(pad_token_id=0), 'Gemma': LLAMA | dict(head_dim=8), 'Gemma2': GEMMA, 'Gemma3Text': GEMMA,
    'Olmo2': LLAMA, 'StableLm': LLAMA, 'Starcoder2': LLAMA, 'Cohere': LLAMA,
}
ENCODERS = {
    'Bert': BERT, 'Roberta': BERT, 'XLMRoberta': BERT, 'Electra': BERT | dict(embedding_size=32), 'MPNet': BERT,
    'DistilBert': dict(vocab_size=300, dim=32, hidden_dim=48, n_layers=3, n_heads=4, max_position_embeddings=64),
    'DebertaV2': BERT, 'ModernBert': BERT | dict(pad_token_id=0),
}
POST_NORM = 'Bert', 'Roberta', 'XLMRoberta', 'Electra', 'MPNet', 'DistilBert', 'DebertaV2'
NO_LAST_STATE = ('Bloom',)


def small_model(name, head=True):
    "An untrained model whose norms and biases are not what they begin as."
    config = getattr(tf, f'{name}Config')(**(DECODERS | ENCODERS)[name])
    family = tf.AutoModel if name in ENCODERS or not head else tf.AutoModelForCausalLM
    with seeded(0):
        model = family.from_config(config).eval().double().requires_grad_(False)
        for weight in model.parameters():
            weight.add_(.1 * torch.randn_like(weight))
    return model


def ids_of(seed=0, size=(2, 9)):
    return torch.randint(5, 300, size, generator=torch.Generator().manual_seed(seed))


def answer(model, ids, **options):
    out = model(ids, **options)
    return out.logits if 'logits' in out else out.last_hidden_state


@pytest.mark.parametrize('name', [*DECODERS, *ENCODERS])
def test_every_hook_is_read_and_spliced(name):
    model, x = small_model(name), ids_of()
    points = list(language.hook_points(model))
    wanted = [f'blocks.{i}{part}{end}' for i in range(3) for part in ('', '.attn', '.mlp') for end in ('', '.in')]
    assert set(wanted) <= set(points) and ('final' in points) == (name not in POST_NORM)
    with language.reading(model, points) as seen:
        want = answer(model, x)
    for hook in points:
        assert seen[hook].shape[:2] == x.shape and seen[hook].ndim == 3, hook
        with language.splicing(model, hook, lambda v: v):
            assert torch.equal(answer(model, x), want), hook
        with language.splicing(model, hook, lambda v: v + 0):  # another tensor, the same numbers
            assert torch.equal(answer(model, x), want), hook
        with language.splicing(model, hook, torch.zeros_like), language.reading(model, ['blocks.2']) as after:
            assert not torch.equal(answer(model, x), want), hook
        assert hook == 'final' or not torch.equal(after['blocks.2'], seen['blocks.2'])
    assert torch.equal(answer(model, x), want)  # and nothing stays behind


@pytest.mark.parametrize('name', [*DECODERS, *ENCODERS])
def test_hooks_are_the_stream_of_transformers(name):
    model, x = small_model(name), ids_of()
    with language.reading(model, language.hook_points(model)) as seen:
        states = model(x, output_hidden_states=True).hidden_states
    for i in range(3):
        torch.testing.assert_close(seen[f'blocks.{i}.in'], states[i])
        if i < 2:
            torch.testing.assert_close(seen[f'blocks.{i}'], states[i + 1])
    last = seen['blocks.2'] if name in POST_NORM or name in NO_LAST_STATE and len(states) < 4 else seen['final']
    torch.testing.assert_close(last, states[3])


def mid_norm(block):
    "BERT's norm after attention, and that after the MLP."
    modules = dict(block.named_modules())
    names = ('attention.output.LayerNorm', 'output.LayerNorm')
    if 'sa_layer_norm' in modules:
        names = 'sa_layer_norm', 'output_layer_norm'
    elif 'attention.LayerNorm' in modules:
        names = 'attention.LayerNorm', 'output.LayerNorm'
    return [modules[n] for n in names]


@pytest.mark.parametrize('name', [*DECODERS, *ENCODERS])
def test_a_block_is_the_sum_of_its_parts(name):
    model, x = small_model(name), ids_of()
    with language.reading(model, language.hook_points(model)) as seen:
        model(x)
    for i, block in enumerate(language.blocks(model)):
        stream, attn, mlp = (seen[f'blocks.{i}{part}'] for part in ('.in', '.attn', '.mlp'))
        if name in POST_NORM:
            first, second = mid_norm(block)
            middle = first(stream + attn)
            torch.testing.assert_close(seen[f'blocks.{i}.attn.in'], stream)
            torch.testing.assert_close(seen[f'blocks.{i}.mlp.in'], middle)
            torch.testing.assert_close(seen[f'blocks.{i}'], second(middle + mlp))
        else:
            torch.testing.assert_close(seen[f'blocks.{i}'], stream + attn + mlp)


@pytest.mark.parametrize('name', DECODERS)
def test_the_direct_effect_is_that_of_the_models_own_forward(name):
    "A step across the stream at the last block, so short and so turned that the norm's scale does not change."
    model, x, step = small_model(name), ids_of(), 1e-2
    if name == 'Gemma2':
        model.config.final_logit_softcapping = None  # the effect is that before the cap
    with language.reading(model, ['blocks.2']) as seen:
        model(x)
    stream, norm = seen['blocks.2'][0, -1], language.final_norm(model)
    centers = language.norm_form(norm, 32)[1]
    with seeded(1):
        atom = torch.randn(32, dtype=torch.float64)
    along = stream - stream.mean() if centers else stream
    atom = atom - (atom @ along) / (along @ along) * along
    atom = atom * along.norm() / atom.norm()
    logits = []
    for sign in (1, -1):
        with language.splicing(model, 'blocks.2', lambda v: v + sign * step * atom):
            logits.append(model(x).logits[0, -1])
    found = (logits[0] - logits[1]) / (2 * step)
    effect = language.logit_effect(model, atom[None])[0]
    cosine = torch.cosine_similarity(found, effect, dim=0)
    assert cosine > 1 - 1e-5 and (found @ effect) > 0
    spread = (along.square().mean()).sqrt()
    scale = getattr(model, 'logit_scale', 1) or 1
    torch.testing.assert_close(found * spread, effect * scale, rtol=1e-3, atol=1e-4)


def test_the_direct_effect_is_refused_where_there_is_none():
    masked = tf.AutoModelForMaskedLM
    cases = [
        (small_model('Bert'), 'model: expected a layer norm before the head; got none in BertModel'),
        (masked.from_config(tf.BertConfig(**BERT)), 'model: expected a layer norm before the head'),
        (masked.from_config(tf.ModernBertConfig(**ENCODERS['ModernBert'])), 'where other layers stand between'),
        (small_model('Llama', head=False), 'model: expected a language head; got none in LlamaModel'),
    ]
    for model, why in cases:
        with pytest.raises(ValueError, match=why):
            language.logit_effect(model.eval(), torch.randn(2, 32))
    model = small_model('Llama')
    for atoms in (torch.randn(2, 31), torch.randn(32), None, torch.full((1, 32), float('nan'))):
        with pytest.raises(ValueError, match='atoms: expected'):
            language.logit_effect(model, atoms)

    class Tanh(torch.nn.Module):
        "What some put in the place of a norm."

        def forward(self, x):
            return x.tanh()
    Tanh.__name__ = 'TanhNorm'
    model.model.norm = Tanh()
    with pytest.raises(ValueError, match='model: expected a layer norm or an RMS norm before the head; got TanhNorm'):
        language.logit_effect(model, torch.randn(2, 32))


def test_models_of_other_shapes_are_refused():
    t5 = tf.AutoModelForSeq2SeqLM.from_config(tf.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=3,
                                                          num_heads=4, decoder_start_token_id=0))
    with pytest.raises(ValueError, match='model: expected one stack of blocks; got T5.*, an encoder and a decoder'):
        language.hook_points(t5)
    assert 'blocks.2' in language.hook_points(t5.get_encoder())
    albert = tf.AutoModel.from_config(tf.AlbertConfig(**BERT, embedding_size=32))
    with pytest.raises(ValueError, match='model: expected a list of 3 blocks; got none in AlbertModel'):
        language.find_hook(albert, 'blocks.0')
    assert language.find_hook(albert, 'encoder')[1] == 'out'  # a module's own path goes without blocks
    model = small_model('Llama')
    for bad in (None, 5, '', ['blocks.0'], 'blocks.3', 'blocks.0.att'):
        with pytest.raises(ValueError, match='hook: expected'):
            language.find_hook(model, bad)
    bad = [(lambda v: v[:1], r'\(1, 9, 32\)'), (lambda v: None, 'NoneType'), (lambda v: v.mean(), r'\(\)')]
    for change, got in bad:
        with pytest.raises(ValueError, match=f'change: expected activations of shape .* again; got {got}'):
            with language.splicing(model, 'blocks.0', change):
                model(ids_of())


# ---- text

def tokenizer_of(kind):
    "Tokenizers by words: with an end of text as GPT-2's, a beginning as Llama's, both ends as BERT's, or nothing."
    import tokenizers as tk

    words = ['[PAD]', '[UNK]', '<s>', '</s>', *'abcdefghijklmnopqrstuvwxyz']
    tok = tk.Tokenizer(tk.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token='[UNK]'))
    tok.pre_tokenizer = tk.pre_tokenizers.WhitespaceSplit()
    frame = dict(llama='<s> $A', bert='<s> $A </s>').get(kind)
    if frame:
        tok.post_processor = tk.processors.TemplateProcessing(single=frame, special_tokens=[('<s>', 2), ('</s>', 3)])
    special = dict(
        gpt2=dict(eos_token='</s>', bos_token='</s>'), llama=dict(bos_token='<s>', eos_token='</s>'),
        bert=dict(cls_token='<s>', sep_token='</s>', pad_token='[PAD]'), bare={},
    )[kind]
    return tf.PreTrainedTokenizerFast(tokenizer_object=tok, unk_token='[UNK]', **special)


TEXTS = ['a b c d', 'e f', 'g h i j k']
LETTERS = list(range(4, 15))


@pytest.mark.parametrize('kind, stream', [
    ('gpt2', [[4, 5, 6, 7, 3, 8], [9, 3, 10, 11, 12, 13]]),
    ('llama', [[2, 4, 5, 6, 7, 3], [2, 8, 9, 3, 10, 11]]),
    ('bert', [[2, 4, 5, 6, 7, 3], [2, 3, 8, 9, 3, 3], [2, 10, 11, 12, 13, 3]]),
    ('bare', [[4, 5, 6, 7, 8, 9]]),
])
def test_packing_by_the_tokenizers_own_special_tokens(kind, stream):
    tok = tokenizer_of(kind)
    packed = language.pack(tok, TEXTS, 6)
    assert packed.ids.tolist() == stream
    assert packed.keep.tolist() == [[i >= 4 for i in row] for row in stream]  # no special token has a row
    each = language.pack(tok, TEXTS, 8, 'each')
    assert each.ids[each.keep].tolist() == LETTERS  # every letter once, and nothing made up
    before = int(kind in ('llama', 'bert'))
    assert each.keep[1].tolist() == [False] * before + [True] * 2 + [False] * (6 - before)


@pytest.mark.parametrize('name', ['Bert', 'Roberta', 'MPNet', 'DistilBert', 'ModernBert'])
def test_padding_does_not_reach_the_tokens_of_an_encoder(name):
    model, tok = small_model(name), tokenizer_of('bert')
    hooks = list(language.hook_points(model))
    padded = language.activations(model, tok, TEXTS, hooks, 12, packing='each', shuffle=False, drop_first=False)
    for i, text in enumerate(TEXTS):
        alone = language.activations(model, tok, [text], hooks, len(text.split()) + 2, packing='each')
        for hook in hooks:
            torch.testing.assert_close(padded[hook][padded.contexts == i], alone[hook], rtol=1e-4, atol=1e-5)
    with language.reading(model, ['blocks.1']) as seen:  # by hand, with transformers' own tokenization
        model(**tok(TEXTS[1], return_tensors='pt', return_token_type_ids=False))
    torch.testing.assert_close(padded['blocks.1'][padded.contexts == 1], seen['blocks.1'][0, 1:-1].float())


def test_contexts_that_a_model_can_read():
    for name, most in (('Bert', 66), ('Roberta', 64), ('MPNet', 64), ('DistilBert', 64), ('Llama', 64)):
        model = small_model(name)
        assert language.longest_context(model) == most
        text = ['a ' * 200]
        assert len(language.activations(model, tokenizer_of('bert'), text, 'blocks.0', batch_size=1)) > 60
        with pytest.raises(ValueError, match=f'context: expected a whole number from 1 to {most}; got {most + 1}'):
            language.activations(model, tokenizer_of('bert'), text, 'blocks.0', most + 1)
    with pytest.raises(ValueError, match='context: expected a number of tokens'):
        language.activations(small_model('Bloom'), tokenizer_of('gpt2'), TEXTS, 'blocks.0')
    with pytest.raises(ValueError, match='context: expected more than the 2 special tokens of a text; got 2'):
        language.pack(tokenizer_of('bert'), TEXTS, 2)


def test_tokens_of_another_model():
    tok = tokenizer_of('gpt2')
    few = tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**LLAMA | dict(vocab_size=10)))
    with pytest.raises(ValueError, match='tokenizer: expected tokens below 10, the embeddings of the model; got 1'):
        language.activations(few.eval(), tok, TEXTS, 'blocks.0', 6)
    for bad in (None, 'gpt2', tok.backend_tokenizer, str.split):
        with pytest.raises(ValueError, match='tokenizer: expected one of transformers'):
            language.pack(bad, TEXTS, 6)


ENCODED = {  # what is written, how; None where it is refused
    'utf-8': 'Grüße, 漢字\nzwei', 'utf-8-sig': 'Grüße\nzwei', 'utf-16': 'Grüße\nzwei', 'utf-32': 'Grüße\nzwei',
    'latin-1': None, 'utf-16-le': None, 'utf-16-be': None, 'cp1252': None,
}


@pytest.mark.parametrize('encoding', ENCODED)
@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
def test_encodings_of_a_text_file(encoding, newline, tmp_path):
    path, want = tmp_path/f'{encoding}.txt', ENCODED[encoding]
    path.write_bytes((want or 'Grüße\nzwei').replace('\n', newline).encode(encoding))
    if want:
        assert language.read_texts(path, split='\n') == want.split('\n')
        return
    with pytest.raises(ValueError, match=rf"texts: expected .* in '.*{encoding}\.txt'; got .* at \d"):
        language.read_texts(path)


def test_big_endian_marks_and_an_image_by_mistake(tmp_path):
    path = tmp_path/'x.txt'
    path.write_bytes(b'\xfe\xff' + 'zwei'.encode('utf-16-be'))
    assert language.read_texts(path) == ['zwei']
    paint(tmp_path/'x.png')
    with pytest.raises(ValueError, match=r"texts: expected utf-8 in '.*x\.png'; got byte 0x89 at 0"):
        language.read_texts(tmp_path/'x.png')


class Table:
    "As a dataset or a data frame says what columns it has."

    def __init__(self, columns, name='column_names'):
        self.rows = columns
        setattr(self, name, list(columns))

    def __getitem__(self, column):
        return self.rows[column]

    def __iter__(self):
        return iter(self.rows)


def test_tables_of_texts(tmp_path, monkeypatch):
    columns = dict(text=['a b', '', 'c d'], label=[0, 1, 2])
    for table in (columns, Table(columns), Table(columns, 'columns'), [dict(text=t) for t in columns['text']],
                  ({'text': t} for t in columns['text']), np.array(columns['text'])):
        assert language.read_texts(table) == ['a b', 'c d']
    for table in (dict(body=['a']), Table(dict(body=['a'])), dict(train=columns)):
        with pytest.raises(ValueError, match="texts: expected a column 'text'; got "):
            language.read_texts(table)
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path/'x.txt').write_text('a b')
    assert language.read_texts('~/x.txt') == ['a b']
    assert language.read_texts(['\ufeffa b']) == ['a b']


@pytest.mark.parametrize('bad, got', [
    (None, 'None'), (5, '5'), (b'bytes', "b'bytes'"), ({'a b'}, "{'a b'}"), ([None], 'NoneType at 0'),
    (['a', 5], 'int at 1'), (['a', None], 'NoneType at 1'), ([b'x'], 'bytes at 0'), ([{'body': 'x'}], 'NoneType at 0'),
    ([['a']], 'list at 0'), (['a', 'half \ud800'], 'half a character'), ([float('nan')], 'float at 0'),
])
def test_what_is_no_text(bad, got):
    import re

    model = small_model('Llama')
    for read in (language.read_texts, lambda texts: language.pack(tokenizer_of('gpt2'), texts, 4),
                 lambda texts: language.activations(model, tokenizer_of('gpt2'), texts, 'blocks.0', 4)):
        with pytest.raises(ValueError, match='texts: expected .*' + re.escape(got)):
            read(bad)


def test_texts_without_text(tmp_path):
    (tmp_path/'empty.txt').write_text('')
    for bad in ([], [''], [' ', '\n'], tmp_path/'empty.txt'):
        with pytest.raises(ValueError, match='texts: expected at least one'):
            language.read_texts(bad)
    for bad in ('x' * 5000, 'a\0b', tmp_path, tmp_path/'none.txt'):
        with pytest.raises(FileNotFoundError, match='texts: expected the path of a text file'):
            language.read_texts(bad)
    with pytest.raises(ValueError, match='split: expected a string, or None'):
        language.read_texts(['a'], split='')


# ---- folders of models

@pytest.fixture
def saved(tmp_path):
    model = tf.AutoModelForCausalLM.from_config(tf.LlamaConfig(**LLAMA)).eval()
    return language.save_lm(language.LM(model, tokenizer_of('llama')), tmp_path/'lm')


@pytest.mark.parametrize('without, got', [
    (['tokenizer.json'], 'tokenizer_config.json'), (['tokenizer.json', 'tokenizer_config.json'], 'model.safetensors'),
])
def test_a_folder_without_a_tokenizer(without, got, saved):
    for name in without:
        (saved/name).unlink()
    with pytest.raises(ValueError, match=rf"tokenizer: expected tokenizer\.json, .* in '.*lm'; got .*{got}"):
        language.load_lm(saved, device='cpu')
    (saved/'vocab.json').write_text('{"a": 0, "b": 1}')
    with pytest.raises(ValueError, match=r"tokenizer: expected merges\.txt beside vocab\.json in '.*lm'; got "):
        language.load_lm(saved, device='cpu')


def test_a_tokenizer_with_special_tokens_alone(saved):
    import tokenizers as tk

    tok = tk.Tokenizer(tk.models.WordLevel({'</s>': 0}, unk_token='</s>'))
    tf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token='</s>').save_pretrained(saved)
    with pytest.raises(ValueError, match='tokenizer: expected one with tokens for text; got 1 tokens'):
        language.load_lm(saved, device='cpu')


@pytest.mark.parametrize('file, content', [
    ('model.safetensors', None), ('model.safetensors', b''), ('tokenizer.json', b'{"x": 1}'), ('config.json', b'{'),
    ('tokenizer.json', b'\xff\xfe'), ('config.json', b'[]'),
])
def test_damaged_folders(file, content, saved):
    whole = (saved/file).read_bytes()
    (saved/file).write_bytes(whole[:len(whole) // 2] if content is None else content)
    what = 'tokenizer' if 'tokenizer' in file else 'model'
    with pytest.raises(ValueError, match=rf"{what}: could not be read from '.*lm': "):
        language.load_lm(saved, device='cpu')


def test_names_that_are_none(saved, monkeypatch):
    for bad in (None, 5, '', ['x']):
        with pytest.raises(ValueError, match='model: expected a folder or a name on the Hub; got'):
            language.load_lm(bad, device='cpu')
    monkeypatch.setenv('HOME', str(saved.parent))
    assert language.load_lm('~/lm', device='cpu').name == 'lm'


def test_a_head_that_is_not_in_the_file_is_no_random_one(tmp_path):
    config = tf.BertConfig(**BERT)
    encoder = tf.AutoModel.from_config(config).eval()
    folder = language.save_lm(language.LM(encoder, tokenizer_of('bert')), tmp_path/'bert')
    back = language.load_lm(folder, device='cpu')
    assert type(back.model).__name__ == 'BertModel'  # and not a causal model with a head of random numbers
    assert torch.equal(back.model(ids_of()).last_hidden_state, encoder(ids_of()).last_hidden_state)
    encoder.config.architectures = ['BertForMaskedLM']
    encoder.config.save_pretrained(folder)
    said = 'model: could not be read from .*: expected all weights of BertForMaskedLM; got none for .* of its tensors'
    with pytest.raises(ValueError, match=said):
        language.load_lm(folder, device='cpu')
    keep = ids_of() > 0
    cost = language.downstream(back.model, ids_of(), keep, 'blocks.0', torch.zeros_like, torch.zeros(32))
    assert cost['cosine_spliced'] == cost['cosine_zero'] < 1  # an encoder needs no head: its embeddings are compared
    decoder = small_model('GPT2').base_model
    with pytest.raises(ValueError, match='model: expected a causal language model or an encoder; got GPT2Model'):
        language.downstream(decoder, ids_of(), keep, 'blocks.0', torch.zeros_like, torch.zeros(32))


def test_activations_that_overflow_are_found_with_their_text():
    model, tok = small_model('GPT2').half(), tokenizer_of('gpt2')
    model.transformer.wte.weight[4 + 6] = 40000.  # the letter g, at position 2 of the second context
    model.transformer.wpe.weight[2] = 40000.
    said = (r"model: expected finite activations; got NaN or Inf at blocks\.0 for \d of \d tokens, "
            r"the first in context 1 at position 2: \.\.\.'f </s> g'; torch.float16 ends at 65504: try model")
    with pytest.raises(ValueError, match=said):
        language.activations(model, tok, TEXTS, [f'blocks.{i}' for i in range(3)], 6, shuffle=False, batch_size=1)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['GPT2', 'Llama', 'Gemma3Text', 'OPT', 'Bert'])
def test_half_precision_models(name, dtype):
    model, tok = small_model(name).float(), tokenizer_of('bert')
    hooks = list(language.hook_points(model))
    want = language.activations(model, tok, TEXTS, hooks, 6, shuffle=False)
    got = language.activations(model.to(dtype), tok, TEXTS, hooks, 6, shuffle=False)
    for hook in hooks:
        assert got[hook].dtype == torch.float32
        away = (got[hook] - want[hook]).square().sum() / want[hook].square().sum()
        assert away < (1e-4 if dtype == torch.float16 else 1e-2), hook
    if name != 'Bert':
        effect = language.logit_effect(model, torch.eye(32)[:2])
        assert effect.dtype == torch.float32 and effect.isfinite().all()


def test_a_real_encoder():
    "all-MiniLM-L6-v2 where it is at hand: a padded batch, its masks and special tokens, all hooks, a splice."
    here = vision.data_folder()
    if here is None or not (here/'minilm_l6').is_dir():
        pytest.skip('no minilm_l6/ in $ARCHSAE_DATA or shared/data')
    lm = language.load_lm(here/'minilm_l6', device='cpu')
    model, tok = lm.model.float(), lm.tokenizer
    texts = ['A cat sits on a mat.', 'The kitten is lying on the rug.', 'Shares fell on the market as rates rose.']
    hooks = list(language.hook_points(model))
    assert len(hooks) == 36 and 'final' not in hooks
    acts = language.activations(model, tok, texts, hooks, 24, packing='each', shuffle=False)
    batch = tok(texts, padding=True, return_tensors='pt')
    with torch.inference_mode():
        states = model(**batch, output_hidden_states=True).hidden_states
    for i, text in enumerate(texts):
        mine, n = acts.contexts == i, len(tok(text)['input_ids']) - 2
        assert tok.decode(acts.tokens[mine]) == text.lower() and mine.sum() == n
        for b in range(6):
            torch.testing.assert_close(acts[f'blocks.{b}'][mine], states[b + 1][i, 1:n + 1], rtol=1e-3, atol=1e-4)
    means = torch.stack([acts['blocks.5'][acts.contexts == i].mean(0) for i in range(3)])
    cosine = torch.cosine_similarity(means[:1], means[1:])
    assert cosine[0] > .5 > .25 > cosine[1]
    with torch.inference_mode():
        for hook in hooks[::5]:
            with language.splicing(model, hook, lambda v: v.clone()):
                assert torch.equal(model(**batch).last_hidden_state, states[-1])
            with language.splicing(model, hook, torch.zeros_like):
                assert not torch.equal(model(**batch).last_hidden_state, states[-1])
