import pytest
import torch

from ddl.models.language import LanguageModel, generate, tempered

from ..tasks.steps import watch_cpu


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(1)
    made = LanguageModel(vocabulary=12, embedding=6, hidden=8, layers=2, dropout=0.5)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made.eval()


@pytest.mark.parametrize(("temperature", "likeliest"), [(0.01, 1.0), (1.0, 0.9), (2.0, 0.680), (1000.0, 1 / 3)])
def test_the_studys_worked_example(temperature, likeliest):
    """Section 7.3.3: 0.9, 0.05 and 0.05. At T = 2 the study prints "about 0.8"; its own equation gives 0.680."""
    found = tempered(torch.tensor([[0.9, 0.05, 0.05]]).log(), torch.tensor([[temperature]]))[0]
    assert found[0].item() == pytest.approx(likeliest, abs=1e-3)
    assert found.sum().item() == pytest.approx(1.0)
    assert found[1] == found[2]


def test_each_row_has_its_own_temperature():
    scores = torch.tensor([0.9, 0.05, 0.05]).log().expand(2, -1)
    found = tempered(scores, torch.tensor([[0.01], [2.0]]))
    assert found[:, 0].tolist() == pytest.approx([1.0, 0.680], abs=1e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(model, temperature):
    with pytest.raises(ValueError, match="are not all above 0"):
        generate(model, torch.tensor([[3], [4]]), 2, torch.tensor([1.0, temperature]), torch.Generator())


def test_the_state_stands_for_all_that_came_before(model):
    tokens = torch.randint(0, 12, (3, 9))
    whole, _ = model(tokens)
    _, state = model(tokens[:, :5])
    rest, _ = model(tokens[:, 5:], state)
    torch.testing.assert_close(rest, whole[:, 5:])


def test_a_text_is_drawn_as_by_a_loop_that_reads_it_all_again(model):
    """Near temperature 0 nothing is left to chance."""
    prompts = torch.tensor([[3, 4], [5, 6]])
    drawn = generate(model, prompts, 10, torch.full((2,), 1e-4), torch.Generator().manual_seed(0))
    for row in range(2):
        text = prompts[row]
        for _ in range(10):
            scores = model(text.unsqueeze(0))[0][0, -1]
            scores[0] = -torch.inf
            text = torch.cat([text, scores.argmax().view(1)])
        assert drawn[row].tolist() == text[2:].tolist()


def test_texts_are_drawn_by_the_models_probabilities(model):
    prompts = torch.tensor([[3, 4]]).expand(4000, -1)
    drawn = generate(model, prompts, 1, torch.full((4000,), 1.5), torch.Generator().manual_seed(0)).flatten()
    scores = model(torch.tensor([[3, 4]]))[0][0, -1]
    scores[0] = -torch.inf
    shares = drawn.bincount(minlength=12) / 4000
    torch.testing.assert_close(shares, torch.softmax(scores / 1.5, 0), atol=0.03, rtol=0)


def test_sampling_draws_the_same_numbers_as_torchs_multinomial(model):
    prompts, temperatures = torch.tensor([[3, 4], [5, 6], [7, 8]]), torch.tensor([0.5, 1.0, 2.0])
    sampled = generate(model, prompts, 12, temperatures, torch.Generator().manual_seed(5))
    generator, text = torch.Generator().manual_seed(5), prompts
    for _ in range(12):
        logits = model(text)[0][:, -1]
        logits[:, 0] = -torch.inf
        text = torch.cat([text, torch.multinomial(tempered(logits, temperatures.unsqueeze(1)), 1, generator=generator)], dim=1)
    assert torch.equal(sampled, text[:, 2:])


def test_sampling_does_not_read_each_token_from_the_device(model):
    found = []
    for length in (3, 30):
        with watch_cpu() as reads:
            generate(model, torch.tensor([[3, 4]]), length, torch.ones(1), torch.Generator().manual_seed(0))
        found.append(len(reads))
    assert found == [1, 1], "the temperatures are checked once"


def test_a_text_at_a_temperature_that_is_not_above_0_is_refused(model):
    with pytest.raises(ValueError, match="are not all above 0"):
        generate(model, torch.tensor([[3, 4]]), 3, torch.zeros(1), torch.Generator())


def test_the_unknown_token_is_never_drawn_and_the_same_numbers_give_the_same_texts(model):
    with torch.no_grad():
        model.bias[0] = 50.0
    prompts = torch.ones(20, 1, dtype=torch.int64)
    first, again = (generate(model, prompts, 15, torch.full((20,), 2.0), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first > 0).all()
    assert len({tuple(row) for row in first.tolist()}) > 10


def test_its_layers_are_those_of_one_lstm_with_dropout_between_them():
    torch.manual_seed(0)
    model = LanguageModel(vocabulary=12, embedding=6, hidden=8, layers=2, dropout=0.5)
    torch.manual_seed(0)
    torch.nn.Embedding(12, 6)
    whole = torch.nn.LSTM(6, 8, 2, batch_first=True, dropout=0.5)
    tokens = torch.randint(0, 12, (3, 9))
    torch.manual_seed(1)
    found, (hidden, cell) = model(tokens)
    torch.manual_seed(1)
    outputs, (expected_hidden, expected_cell) = whole(model.dropout(model.embedding(tokens)))
    assert torch.allclose(hidden, expected_hidden, atol=1e-6)
    assert torch.allclose(cell, expected_cell, atol=1e-6)
    expected = torch.nn.functional.linear(model.dropout(model.projection(outputs)), model.embedding.weight, model.bias)
    assert torch.allclose(found, expected, atol=1e-5)
