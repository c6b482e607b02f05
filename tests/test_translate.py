"""The frame that translates, around every mixer: what it reads, what it writes, and what it must not see."""

import math

import numpy as np
import pytest
import torch
from checkpoint_runs import finished, killed, left, run
from torch import nn

from seqbench.config import RunConfig
from seqbench.data import BEGIN, END, Batch
from seqbench.errors import Diverged, NotApplicable, UserError
from seqbench.experiment import resolve, run_cell
from seqbench.jobs.store import Store
from seqbench.models.backbone import build, check_causal, count_parameters
from seqbench.models.heads import Shape
from seqbench.models.mixer import MODELS, Mixer
from seqbench.models.sizing import flops_per_sample, width_for
from seqbench.models.translate import Translator, _limits, _taken
from seqbench.prepare import prepare
from seqbench.training import training_order

SHAPE = Shape(tokens=30, features=0, outputs=(30,), every_step=True)
FRAMES = [{}, {"attention": "none"}, {"frame": "decoder"}]
WRITERS = [name for name in MODELS.names() if MODELS.get(name).mixer.can_be_causal and "." not in name]
names = pytest.mark.parametrize("name", WRITERS)
frames = pytest.mark.parametrize("options", FRAMES, ids=["dot", "none", "decoder"])


def translator(name, options, backbone="bare", seed=0, width=16, **more):
    torch.manual_seed(seed)
    return build(name, "translate", SHAPE, (width, width), 0.0, backbone, options=options, **more).eval()


def sentences(seed=1, rows=4, read=9, written=7):
    """Sources, their lengths, and targets with zeros after their end."""
    rng = np.random.default_rng(seed)
    lengths, ends = rng.integers(2, read + 1, rows), rng.integers(2, written + 1, rows)
    lengths[0], ends[0] = read, written
    inputs, targets = (torch.from_numpy(rng.integers(4, 30, (rows, size))) for size in (read, written))
    inputs[torch.arange(read) >= torch.from_numpy(lengths)[:, None]] = 0
    targets[torch.arange(written) >= torch.from_numpy(ends)[:, None]] = 0
    return inputs, torch.from_numpy(lengths), targets


@names
@frames
def test_padding_on_either_side_changes_nothing(name, options):
    inputs, lengths, targets = sentences()
    model = translator(name, options).double()
    together = model(inputs, lengths, targets)
    for i, length in enumerate(lengths.tolist()):
        end = int((targets[i] > 0).sum())
        alone = model(inputs[i : i + 1, :length], None, targets[i : i + 1, :end])
        assert torch.allclose(together[i, :end], alone[0], atol=1e-9)
    inputs[inputs == 0] = 29  # whatever stands there
    changed = model(inputs, lengths, targets)
    assert torch.equal(changed[targets > 0], together[targets > 0])


@names
@frames
def test_writing_step_by_step_is_what_teaching_reads(name, options):
    """The scores of teacher forcing, and those of the step forms that write."""
    inputs, _, targets = sentences()
    targets[targets == 0] = 5
    model = translator(name, options)
    taught = model(inputs, None, targets)
    state = model._start(inputs, torch.full((4,), 9))
    tokens = torch.full((4,), BEGIN)
    for t in range(targets.shape[1]):
        scores, state = model._next(tokens, state)
        assert torch.allclose(scores, taught[:, t], atol=1e-5), t
        tokens = targets[:, t]


def likeliest(scores):
    """Of what a target can hold."""
    return int(scores.index_fill(-1, torch.tensor([0, BEGIN]), -math.inf).argmax())


@frames
@pytest.mark.parametrize("backbone", ["bare", "residual"])
def test_what_is_written_is_the_likeliest_piece_each_time(options, backbone):
    inputs, lengths, _ = sentences()
    model = translator("gru", options, backbone)
    written = model.answer(Batch(inputs, lengths))
    for i, length in enumerate(lengths.tolist()):
        pieces = []
        for _ in range(int(_limits(lengths)[i])):
            so_far = torch.tensor([[*pieces, 1]])
            best = likeliest(model(inputs[i : i + 1, :length], None, so_far)[0, -1])
            if best == END:
                break
            pieces.append(best)
        assert written[i][written[i] > 0].tolist() == pieces


@names
@frames
def test_the_decoder_sees_nothing_of_what_it_is_to_write(name, options):
    check_causal(translator(name, options), np.random.default_rng(0).integers(4, 30, (1, 12)))


class _Peeking(nn.Module):
    """A mixer's steps, shifted: each has the next one's."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, lengths=None):
        return self.inner(x, lengths).roll(-1, dims=1)


@frames
def test_a_decoder_that_does_see_it_is_found(options):
    model = translator("gru", options)
    model.layers[0] = _Peeking(model.layers[0])
    with pytest.raises(NotApplicable, match="depends on later steps"):
        check_causal(model, np.random.default_rng(0).integers(4, 30, (1, 12)))


@names
def test_the_encoder_has_read_all_of_the_source_at_its_first_step(name):
    model = translator(name, {}, width=32)
    embedded = torch.randn(1, 6, 32, requires_grad=True)
    read = model.readers[0](embedded, None)
    (gradient,) = torch.autograd.grad(read[0, 0].square().sum(), embedded)
    assert (gradient.abs().sum(dim=2) > 0).all()


def test_without_attention_the_decoder_has_a_vector_only():
    """And with it the weights are shares of the real steps of the source."""
    inputs, lengths, targets = sentences()
    blind, seeing = translator("lstm", {"attention": "none"}), translator("lstm", {})
    assert blind._remember(inputs, lengths)[:3] == (None, None, None)
    assert blind.alignment(inputs, targets) is None
    memory = seeing._remember(inputs, lengths)
    weights = seeing._weights(torch.randn(4, 3, 16), memory)
    assert torch.allclose(weights.sum(dim=2), torch.ones(4, 3), atol=1e-6)
    assert (weights[torch.arange(9).expand(4, 3, 9) >= lengths[:, None, None]] == 0).all()
    assert seeing.state_size(10) == blind.state_size(10) + 3 * 16 * 10


class _Plain(Mixer):
    """A mixer of one's own without a step form: running means."""

    def __init__(self, d_in, d_out, causal):
        super().__init__(d_in, d_out, causal=True)
        self.linear = nn.Linear(d_in, d_out)

    def forward(self, x, lengths=None):
        return torch.tanh(self.linear(x)).cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]

    def state_size(self, length):
        return self.d_out


@frames
def test_a_mixer_without_a_step_form_writes_too(options):
    head = type(translator("gru", {}).head)
    torch.manual_seed(0)
    model = Translator(_Plain, head, SHAPE, (8,), **options).eval()
    inputs, lengths, _ = sentences()
    written = model.answer(Batch(inputs, lengths))
    for i, length in enumerate(lengths.tolist()):
        pieces = written[i][written[i] > 0]
        scores = model(inputs[i : i + 1, :length], None, torch.cat([pieces, pieces.new_tensor([1])])[None])[0]
        assert [likeliest(row) for row in scores[: len(pieces)]] == pieces.tolist()


@torch.no_grad()
def log_probability(model, inputs, pieces, limit):
    """For each piece, as beams are compared; a translation that was cut off has no end."""
    targets = torch.tensor([pieces if len(pieces) == limit else [*pieces, END]])
    logs = model(inputs, None, targets)[0].index_fill(1, torch.tensor([0, BEGIN]), -math.inf).log_softmax(dim=1)
    return float(logs.gather(1, targets[0][:, None]).sum()) / (len(pieces) + 1)


@frames
def test_a_wide_beam_finds_what_is_likelier_than_greedy(options):
    inputs, lengths, _ = sentences(rows=6)
    first = translator("gru", options, seed=3)
    first.table.weight.data *= 6  # so that some pieces, the end among them, are likely
    greedy = first.answer(Batch(inputs, lengths))
    first.beam = 8
    beam = first.answer(Batch(inputs, lengths))
    better = 0
    for i, length in enumerate(lengths.tolist()):
        limit = int(_limits(lengths)[i])
        one, other = (
            log_probability(first, inputs[i : i + 1, :length], row[i][row[i] > 0].tolist(), limit)
            for row in (greedy, beam)
        )
        assert other >= one - 1e-4 or not math.isclose(one, other)
        better += other >= one - 1e-4
        alone = first.answer(Batch(inputs[i : i + 1, :length]))
        assert alone[0][alone[0] > 0].tolist() == beam[i][beam[i] > 0].tolist()
    assert better >= 5


def test_states_of_any_shape_are_taken_by_row():
    state = ([torch.arange(3), (torch.arange(6).view(3, 2), None)], 7)
    kept, seven = _taken(state, torch.tensor([2, 0, 0]))
    assert kept[0].tolist() == [2, 0, 0] and kept[1][0].tolist() == [[4, 5], [0, 1], [0, 1]] and seven == 7


def test_predictions_of_a_model_that_has_diverged_are_refused():
    model = translator("gru", {})
    model.bias.data[3] = math.nan
    inputs, lengths, _ = sentences()
    with pytest.raises(Diverged):
        model.answer(Batch(inputs, lengths))
    model.beam = 4
    with pytest.raises(Diverged):
        model.answer(Batch(inputs, lengths))


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in WRITERS), *((name, one) for name in ("gru", "transformer", "tcn") for one in FRAMES[1:])],
    ids=str,
)
def test_width_by_parameters_and_operations_are_told(name, options):
    width = width_for(20_000, name, "translate", SHAPE, 1, "bare", options=options)
    model = build(name, "translate", SHAPE, (width,), options=options)
    assert abs(count_parameters(model) - 20_000) < 5_000
    few, many = (flops_per_sample(model, length) for length in (10, 20))
    assert few is not None and 1.7 < many / few < 3.5


def test_a_model_that_sees_later_steps_is_no_decoder():
    with pytest.raises(NotApplicable, match="bilstm sees later steps, so it can't be the decoder of a translate task"):
        translator("bilstm", {})


def test_regularisers_reach_the_encoder_too():
    from seqbench.models.mixer import Regularisers

    model = translator("lstm", {}, regularisers=Regularisers(recurrent_dropout=0.3, max_norm=1.0))
    cells = [mixer for mixer in model.modules() if isinstance(mixer, Mixer)]
    assert len(cells) == 6 and all(cell.dropped == 0.3 for cell in cells)
    assert len(model.incoming()) == 12


# --- from the configuration to the record -----------------------------------------------------------------------------

SMALL = {"task": "toy-pairs", "model": "gru", "budget": "smoke", "hidden": (8,), "layers": 1}


@pytest.mark.parametrize("options", [{}, {"frame": "decoder"}, {"attention": "none", "beam": 2}], ids=str)
def test_options_are_part_of_the_record_and_of_nothing_else(toys, tmp_path, options):
    outcome = run_cell(RunConfig(**SMALL, **options), Store(tmp_path))
    assert outcome.record.status == "ok", outcome.record.reason
    told = {
        name: outcome.record.config[name] for name in ("frame", "attention", "beam") if name in outcome.record.config
    }
    assert told == options
    assert (outcome.folder / "alignment.json").is_file() == (options == {})
    assert "translation  " in (outcome.folder / "sample.txt").read_text()


@pytest.mark.parametrize("options", [{}, {"frame": "decoder"}], ids=str)
def test_a_run_that_was_killed_ends_as_one_that_was_not(toys, short, tmp_path, options):
    cell = {"task": "toy-pairs", "model": "lstm", "budget": "quick", "layers": 1, **options}
    expected = left(run(tmp_path / "whole", **cell))
    for at in (6, 13):
        killed(tmp_path / "again", at, **cell)
    outcome, _ = finished(tmp_path / "again", **cell)
    assert left(outcome) == expected and outcome.record.cost.interrupted


def test_options_of_the_frame_are_refused_elsewhere(toys):
    with pytest.raises(UserError, match="--beam is for tasks of kind translate, and this one is of kind classify"):
        resolve(RunConfig(task="toy-first", model="gru", beam=4))
    with pytest.raises(UserError, match="leave it or --frame decoder out"):
        RunConfig(**SMALL, frame="decoder", attention="dot")


def test_batches_hold_targets_of_like_length_cut_to_the_longest(toys):
    from seqbench.training import DeviceSplit

    train = prepare("toy-pairs", {}).data.train
    resident = DeviceSplit(train, torch.device("cpu"))
    order = training_order(train, 32, np.random.default_rng(0))
    spread = []
    for _ in range(10):
        indices = next(order)
        batch = resident[indices]
        assert batch.inputs.shape[1] == train.row_lengths[indices].max()
        assert batch.targets.shape[1] == train.target_lengths[indices].max()
        assert ((batch.targets > 0).sum(dim=1).numpy() == train.target_lengths[indices]).all()
        spread.append(np.ptp(train.target_lengths[indices]))
    assert np.mean(spread) < 2 < np.ptp(train.target_lengths)
