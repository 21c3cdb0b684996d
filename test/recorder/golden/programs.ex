defmodule Emily.Golden.Programs do
  @moduledoc """
  Functions of `Nx.Defn` as program files, with arguments and what `Nx.BinaryBackend` gives for them.

  Each is a folder of `test/golden/programs/`: the program as `Emily.export/3` writes it, and `case.json`:

    * `arguments`: objects with `type`, `shape` and `data`, as in `Emily.Golden.Case`, in the order of the
      program's parameters;
    * `results`: the same of the program's results.
  """

  import Emily.Golden.Values, only: [pattern: 2]
  import Nx.Defn

  alias Emily.Golden.{Case, Models}
  alias Nx.Defn.{Composite, Evaluator}

  @doc """
  Records every program that it can into `folder`; returns the number of bytes, and the names of the others, which
  stay as they are.
  """
  @spec record(Path.t()) :: {non_neg_integer(), [String.t()]}
  def record(folder) do
    {models, missing} = Models.programs()
    File.mkdir_p!(folder)

    for name <- File.ls!(folder), name not in missing, do: File.rm_rf!(Path.join(folder, name))

    bytes =
      Enum.sum_by(programs() ++ models, fn {name, fun, arguments} ->
        write(Path.join(folder, name), fun, arguments)
      end)

    {bytes, missing}
  end

  # Weights are as they are; what the program takes is in `{:input, container}`.
  defp programs do
    [
      {"mlp", &mlp/2, [weights(), {:input, pattern({4, 6}, 1)}]},
      {"mlp_training_step", &training_step/3,
       [{:input, weights()}, {:input, pattern({4, 6}, 2)}, {:input, Nx.tensor([0, 2, 1, 2])}]},
      {"control_flow", &control_flow/2,
       [{:input, {pattern({5}, 3), Nx.tensor(7)}}, {:input, pattern({3}, 4)}]},
      {"fourier", &fourier/1, [{:input, pattern({2, 16}, 5)}]},
      {"attention", &attention/2, [attention_weights(), {:input, pattern({1, 5, 8}, 6)}]},
      {"narrow", &narrow/2, [narrow_weights(), {:input, pattern({3, 5}, 7)}]}
    ]
  end

  defp write(folder, fun, arguments) do
    templates = for argument <- arguments, do: template(argument)
    :ok = Emily.export(fun, templates, folder)
    values = for argument <- arguments, do: value(argument)
    result = Nx.Defn.jit_apply(fun, values, compiler: Evaluator)
    inputs = for {:input, container} <- arguments, do: container

    fields = %{
      arguments: [List.to_tuple(inputs)] |> Composite.flatten_list() |> Enum.map(&Case.fields/1),
      results: [result] |> Composite.flatten_list() |> Enum.map(&Case.fields/1)
    }

    File.write!(Path.join(folder, "case.json"), Case.to_json(fields))
    folder |> Path.join("*") |> Path.wildcard() |> Enum.sum_by(&File.stat!(&1).size)
  end

  defp template({:input, container}), do: Composite.traverse(container, &Nx.to_template/1)
  defp template(weights), do: weights

  defp value({:input, container}), do: container
  defp value(weights), do: weights

  defp weights do
    %{
      "dense" => %{kernel: pattern({6, 8}, 10), bias: pattern({8}, 11)},
      "output" => %{kernel: pattern({8, 3}, 12), bias: pattern({3}, 13)}
    }
  end

  defp attention_weights do
    for {name, seed} <- [key: 20, out: 21, query: 22, value: 23],
        into: %{scale: pattern({8}, 24)},
        do: {name, pattern({8, 8}, seed)}
  end

  defp narrow_weights do
    %{
      signed: Nx.tensor([[1, -8, 7], [0, 3, -1], [5, 2, -4], [6, -6, 1], [2, 2, -2]], type: :s4),
      offset: Nx.tensor([0, 3, 1], type: :u2),
      scale: Nx.tensor([0.5, 2.0, 0.25], type: :f8),
      bias: Nx.tensor([1.5, -0.5, 0.75], type: :bf16)
    }
  end

  ## The functions

  defn(mlp(weights, x), do: weights |> logits(x) |> softmax())

  defnp logits(weights, x) do
    hidden = Nx.max(Nx.dot(x, weights["dense"].kernel) + weights["dense"].bias, 0)
    Nx.dot(hidden, weights["output"].kernel) + weights["output"].bias
  end

  defnp softmax(x) do
    exp = Nx.exp(x - Nx.reduce_max(x, axes: [-1], keep_axes: true))
    exp / Nx.sum(exp, axes: [-1], keep_axes: true)
  end

  # Stochastic gradient descent on the cross entropy.
  defn training_step(weights, x, labels) do
    {loss, gradients} = value_and_grad(weights, &loss(&1, x, labels))
    %{loss: loss, weights: descended(weights, gradients)}
  end

  defnp loss(weights, x, labels) do
    probabilities = mlp(weights, x)
    one_hot = Nx.new_axis(labels, -1) == Nx.iota({1, 3})
    -Nx.mean(Nx.sum(one_hot * Nx.log(probabilities), axes: [-1]))
  end

  deftransformp descended(weights, gradients) do
    updated = fn weight, gradient -> Nx.subtract(weight, Nx.multiply(gradient, 0.125)) end

    for {layer, own} <- weights, into: %{} do
      {layer,
       Map.new(own, fn {name, weight} -> {name, updated.(weight, gradients[layer][name])} end)}
    end
  end

  defn control_flow({x, limit}, y) do
    {count, limit, x, total} =
      while {count = 0, limit, x, total = Nx.sum(y)}, count < limit do
        halved = if Nx.sum(x) > 1, do: x / 2, else: x + 0.75
        {count + 1, limit, halved, total + Nx.reduce_max(halved)}
      end

    {_limit, doubled} =
      while {limit, total}, total < 100 do
        {limit + 1, total * 2}
      end

    chosen =
      cond do
        doubled > 1000 -> {y, 0}
        count > 100 -> {y * 2, 1}
        true -> {Nx.sin(y) + total, 2}
      end

    %{x: x, doubled: doubled, chosen: chosen}
  end

  @band Nx.tensor([1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 1, 1], backend: Nx.BinaryBackend)
  defn fourier(signal) do
    spectrum = Nx.fft(signal) * @band
    {Nx.abs(spectrum), spectrum |> Nx.ifft() |> Nx.real()}
  end

  # One head, causal, with RMS normalization and a residual connection.
  defn attention(weights, x) do
    normal = x * Nx.rsqrt(Nx.mean(x * x, axes: [-1], keep_axes: true) + 1.0e-6) * weights.scale
    query = Nx.dot(normal, weights.query)
    key = Nx.dot(normal, weights.key)
    value = Nx.dot(normal, weights.value)
    scores = Nx.dot(query, [2], [0], key, [2], [0]) / Nx.sqrt(8)
    causal = Nx.iota({1, 5, 5}, axis: 1) >= Nx.iota({1, 5, 5}, axis: 2)

    attended =
      causal |> Nx.select(scores, -1.0e9) |> softmax() |> Nx.dot([2], [0], value, [1], [0])

    x + Nx.dot(attended, weights.out)
  end

  # Weights of types that safetensors or MLX does not have.
  defn narrow(weights, x) do
    kernel = Nx.as_type(weights.signed, :f32) * Nx.as_type(weights.scale, :f32)
    Nx.dot(x, kernel) + weights.offset + Nx.as_type(weights.bias, :f32)
  end
end
