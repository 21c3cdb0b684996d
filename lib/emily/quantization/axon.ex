defmodule Emily.Quantization.Axon do
  @moduledoc """
  Models of Axon, and so of Bumblebee, with quantized weights.

      {:ok, %{model: model, params: params} = info} = Bumblebee.load_model({:hf, "Qwen/Qwen3-0.6B"})
      {model, params} = Emily.Quantization.Axon.quantize(model, params, bits: 4, group_size: 64)
      info = %{info | model: model, params: params}

  What comes out is used as what went in: by `Axon.predict/4`, by Bumblebee's servings, and by
  `Emily.Generation.Bumblebee`. Names of layers and parameters, biases, activations, hooks and policies stay; the kernels
  are `Emily.QuantizedWeight` in place of tensors, and the layers that have them multiply with
  `Emily.Quantization.quantized_matmul/3`, or look up rows with `Emily.Quantization.take/2`. On Emily such a product is one
  operation, and elsewhere the kernel is dequantized for it.

  | layer | its kernel | |
  | --- | --- | --- |
  | `Axon.dense/3` | `{inputs, units}` | becomes `{units, inputs}`, as inputs share scales |
  | `Axon.embedding/4` | `{words, features}` | |
  | `:dense_transposed` of Bumblebee, the head of its language models | `{units, inputs}` | |

  Where a head is tied to an embedding, Bumblebee's model state has the kernel twice, and both are quantized, to the same
  numbers. Kernels inside of `Axon.block/2` and of recurrent layers stay as they are.

  A policy of mixed precision is applied before, as `Axon.MixedPrecision.apply_policy/3` does it.

  Emily does not depend on Axon; a project that has it can call this.
  """

  alias Emily.Quantization
  alias Emily.Quantization.{Block, Scheme}
  alias Emily.QuantizedWeight

  # A project may have them.
  @compile {:no_warn_undefined, [Axon, Axon.MixedPrecision]}

  @typedoc "What a function given as `:only` or `:except` is told of a layer; the shape is its kernel's, as Axon has it."
  @type layer :: %{
          name: String.t(),
          op: :dense | :embedding | :dense_transposed,
          shape: {pos_integer(), pos_integer()}
        }

  @doc """
  The model and its state with kernels quantized.

  The model is an `Axon` and the state an `Axon.ModelState`, initialized or loaded. Kernels are quantized one after another, each on
  the backend where it is, and are frozen: packed numbers have no gradient, but one flows through them to what came
  before. The model still takes kernels that are not quantized, as they are when it is initialized anew. One that is
  quantized already, by an earlier call with other options, stays as it is.

  ## Options

    * `:mode`, `:bits`, `:group_size` - as those of `Emily.Quantization.quantize/2`
    * `:only` - names of layers, or a function of a `t:layer/0` that says whether to quantize it; all when absent
    * `:except` - names of layers, or such a function, that stay as they are; none when absent

  A layer whose inputs, or features, are no multiple of the group size stays as it is, and so does one whose kernel is
  not of `:f32`, `:f16` or `:bf16`, but if `:only` names it, it is refused with an `ArgumentError`. So is a
  name of no dense layer or embedding.

  ## Examples

      model = Axon.input("x", shape: {nil, 64}) |> Axon.dense(128, activation: :relu) |> Axon.dense(10, name: "head")
      {init, _predict} = Axon.build(model)
      state = init.(Nx.template({1, 64}, :f32), Axon.ModelState.empty())

      {model, state} = Emily.Quantization.Axon.quantize(model, state, bits: 8, except: ["head"])
      state.data["dense_0"]["kernel"]
      #=> #Emily.QuantizedWeight<f32[128][64], affine, 8 bits in groups of 64>
      Axon.predict(model, state, Nx.iota({2, 64}, type: :f32), compiler: Emily.Compiler)
  """
  @spec quantize(struct(), struct(), keyword()) :: {struct(), struct()}
  def quantize(model, state, opts \\ [])

  def quantize(%{__struct__: Axon} = model, %{__struct__: Axon.ModelState} = state, opts) do
    opts = Keyword.validate!(opts, [:mode, :bits, :group_size, :only, :except])
    {choice, opts} = Keyword.split(opts, [:only, :except])
    scheme = Scheme.new!(opts)
    layers = layers(model, state.data)
    chosen = Map.new(chosen(layers, choice, scheme), &{&1.name, &1})
    ids = for {_name, layer} <- chosen, id <- layer.ids, into: MapSet.new(), do: id

    {Axon.map_nodes(model, &if(&1.id in ids, do: replaced(&1), else: &1)),
     Enum.reduce(chosen, state, fn {_name, layer}, state -> stored(state, layer, opts) end)}
  end

  def quantize(model, state, _opts) do
    raise ArgumentError,
          "expected an Axon and an Axon.ModelState, got: #{inspect(model)} and #{inspect(state)}"
  end

  ## Layers

  # Those that can be quantized, or could but for their kernels. Nodes of one name have one kernel, and are all to
  # read it alike.
  defp layers(model, data) do
    for {name, nodes} <- named(model),
        [role] <- [nodes |> Enum.map(&role/1) |> Enum.uniq()],
        role != nil,
        %Nx.Tensor{shape: {_, _}, vectorized_axes: []} = kernel <- [data[name]["kernel"]] do
      %{name: name, op: role, kernel: kernel, ids: Enum.map(nodes, & &1.id)}
    end
    |> Enum.sort_by(& &1.name)
  end

  # Axon's names may count the layers before in the order in which it builds them.
  defp named(%{output: output, nodes: nodes}) do
    {_seen, _counts, named} = named(output, nodes, {MapSet.new(), %{}, []})

    named
    |> Enum.filter(fn {_name, node} -> node.parameters not in [nil, []] end)
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
  end

  defp named(id, nodes, {seen, _counts, _named} = acc) do
    if id in seen do
      acc
    else
      node = Map.fetch!(nodes, id)
      {seen, counts, named} = Enum.reduce(node.parent, acc, &named(&1, nodes, &2))
      name = node.name.(node.op_name, counts)
      counts = Map.update(counts, node.op_name, 1, &(&1 + 1))
      {MapSet.put(seen, id), counts, [{name, node} | named]}
    end
  end

  defp role(%{op: :dense}), do: :dense
  defp role(%{op: :embedding}), do: :embedding

  defp role(%{op: op, op_name: :dense_transposed}) when is_function(op) do
    if Function.info(op, :module) == {:module, Bumblebee.Layers}, do: :dense_transposed
  end

  defp role(_other), do: nil

  ## Choice

  defp chosen(layers, choice, scheme) do
    only = predicate(layers, :only, choice[:only], true)
    except = predicate(layers, :except, choice[:except], false)
    named = if is_list(choice[:only]), do: choice[:only], else: []

    for layer <- layers,
        only.(layer) and not except.(layer),
        fits?(layer, scheme) or (layer.name in named and refuse(layer, scheme)),
        do: layer
  end

  defp predicate(_layers, _option, nil, default), do: fn _layer -> default end

  defp predicate(_layers, _option, fun, _default) when is_function(fun, 1),
    do: fn layer ->
      !!fun.(%{name: layer.name, op: layer.op, shape: layer.kernel.shape})
    end

  defp predicate(layers, option, names, _default) when is_list(names) do
    known = MapSet.new(layers, & &1.name)

    for name <- names, name not in known do
      raise ArgumentError,
            "expected #{inspect(option)} to name dense layers and embeddings whose kernels are tensors, " <>
              "got: #{inspect(name)}"
    end

    &(&1.name in names)
  end

  defp predicate(_layers, option, other, _default) do
    raise ArgumentError,
          "expected #{inspect(option)} to be a list of names, or a function of a layer, got: #{inspect(other)}"
  end

  defp fits?(%{kernel: kernel} = layer, scheme),
    do: kernel.type in Block.floats() and rem(inputs(layer), scheme.group_size) == 0

  defp inputs(%{op: :dense, kernel: kernel}), do: elem(kernel.shape, 0)
  defp inputs(%{kernel: kernel}), do: elem(kernel.shape, 1)

  @spec refuse(map(), Scheme.t()) :: no_return()
  defp refuse(%{name: name, op: op, kernel: kernel}, scheme) do
    raise ArgumentError,
          "expected #{op} #{inspect(name)} to have a kernel of :f32, :f16 or :bf16 with a multiple of " <>
            "#{scheme.group_size} #{if op == :embedding, do: "features", else: "inputs"}, " <>
            "got: #{QuantizedWeight.inspect_tensor(kernel)}"
  end

  ## Replacement

  defp stored(state, %{name: name, op: op, kernel: kernel}, opts) do
    kernel = if op == :dense, do: Nx.transpose(kernel), else: kernel
    # The axes' names say nothing of packed numbers.
    weight = kernel |> Nx.rename([nil, nil]) |> Quantization.quantize(opts)
    frozen = Map.update(state.frozen_parameters, name, ["kernel"], &Enum.uniq(["kernel" | &1]))
    data = Map.update!(state.data, name, &%{&1 | "kernel" => weight})
    %{state | data: data, frozen_parameters: frozen}
  end

  defp replaced(%{op: op, args: args, policy: policy, parameters: parameters} = node) do
    rows? = op == :embedding
    # Axon calls a layer with its inputs and parameters, and then its options.
    layer = fn [x, kernel | rest] -> layer(op, policy, rows?, x, kernel, rest) end

    # What Axon does for a parameter that the model says is frozen takes a tensor; the state says it of the kernel.
    parameters = for parameter <- parameters, do: thawed(parameter)
    %{node | op: variadic(layer, length(args) + 1), parameters: parameters}
  end

  defp thawed(%{name: "kernel"} = parameter), do: %{parameter | frozen: false}
  defp thawed(parameter), do: parameter

  defp layer(_op, policy, true, indices, %QuantizedWeight{} = weight, _opts) do
    # The type of a weight that is not affine is not among the tensors that Axon's policy casts.
    Axon.MixedPrecision.cast(policy, Quantization.take(weight, indices), :compute)
  end

  defp layer(_op, _policy, false, x, %QuantizedWeight{} = weight, rest) do
    product = Quantization.quantized_matmul(x, weight)
    if match?([_bias, _opts], rest), do: Nx.add(product, hd(rest)), else: product
  end

  defp layer(op, _policy, _rows, x, kernel, rest) when is_atom(op),
    do: apply(Axon.Layers, op, [x, kernel | rest])

  defp layer(op, _policy, _rows, x, kernel, rest), do: apply(op, [x, kernel | rest])

  defp variadic(fun, 3), do: &fun.([&1, &2, &3])
  defp variadic(fun, 4), do: &fun.([&1, &2, &3, &4])
end
