# Fits a softmax classifier to images of handwritten digits by gradient descent, every step of it
# written with Emily's operations, and prints how many held-out images it knows.
#
#     mix run train.exs digits.csv.gz

defmodule Digits do
  @pixels 64
  @classes 10
  @steps 300
  @rate 0.5

  # Every fourth image is held out.
  def split(path) do
    {held_out, training} =
      path
      |> File.read!()
      |> :zlib.gunzip()
      |> String.split("\n", trim: true)
      |> Enum.map(fn line -> line |> String.split(",") |> Enum.map(&String.to_integer/1) end)
      |> Enum.with_index()
      |> Enum.split_with(fn {_row, index} -> rem(index, 4) == 3 end)

    {tensors(training), tensors(held_out)}
  end

  defp tensors(rows) do
    {pixels, digits} =
      rows |> Enum.map(fn {row, _} -> Enum.split(row, @pixels) end) |> Enum.unzip()

    digits = List.flatten(digits)
    count = length(rows)

    one_hot =
      for digit <- digits, class <- 0..(@classes - 1), do: if(class == digit, do: 1, else: 0)

    %{
      count: count,
      images: f32(for(row <- pixels, pixel <- row, do: pixel / 16), [count, @pixels]),
      targets: f32(one_hot, [count, @classes]),
      digits: digits
    }
  end

  def fit(data) do
    start =
      {f32(List.duplicate(0, @pixels * @classes), [@pixels, @classes]),
       f32(List.duplicate(0, @classes), [@classes])}

    rate = f32([@rate / data.count], [])
    Enum.reduce(1..@steps, start, fn _step, model -> step(model, data, rate) end)
  end

  defp step({weights, bias} = model, data, rate) do
    error = op(:subtract, [softmax(logits(model, data.images)), data.targets])
    by_weight = op(:dot, [data.images, error], contract_a: [0], contract_b: [0])
    by_bias = op(:sum, [error], axes: [0])
    weights = op(:subtract, [weights, op(:multiply, [rate, by_weight])])
    bias = op(:subtract, [bias, op(:multiply, [rate, by_bias])])
    Emily.eval(weights)
    Emily.eval(bias)
    {weights, bias}
  end

  defp logits({weights, bias}, images) do
    op(:add, [op(:dot, [images, weights], contract_a: [1], contract_b: [0]), bias])
  end

  defp softmax(logits) do
    largest = op(:reduce_max, [logits], axes: [1], keep_axes: true)
    powers = op(:exp, [op(:subtract, [logits, largest])])
    op(:divide, [powers, op(:sum, [powers], axes: [1], keep_axes: true)])
  end

  def correct(model, data) do
    guesses = op(:as_type, [op(:argmax, [logits(model, data.images)], axis: 1)], type: {:s, 32})
    guesses = for <<guess::signed-32-native <- Emily.to_binary(guesses)>>, do: guess
    guesses |> Enum.zip(data.digits) |> Enum.count(fn {guess, digit} -> guess == digit end)
  end

  defp op(name, inputs, options \\ []), do: Emily.op(name, inputs, options)

  defp f32(numbers, shape) do
    Emily.from_binary(for(n <- numbers, into: <<>>, do: <<n::float-32-native>>), shape, {:f, 32})
  end
end

[path] = System.argv()
{training, held_out} = Digits.split(path)
{microseconds, model} = :timer.tc(fn -> Digits.fit(training) end)
IO.puts("trained on #{training.count} images in #{div(microseconds, 1000)} ms")
correct = Digits.correct(model, held_out)
percent = :erlang.float_to_binary(100 * correct / held_out.count, decimals: 2)
IO.puts("accuracy: #{percent} % (#{correct} of #{held_out.count})")
