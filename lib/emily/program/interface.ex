defmodule Emily.Program.Interface do
  @moduledoc false
  # What goes into a program and comes out, as its file has it; the core checks it, and says what each
  # part is.

  alias Emily.Program.Arguments
  alias Nx.Defn.Composite
  alias Nx.Tensor, as: T

  @types Map.new(
           for(
             {kind, sizes} <- [u: [2, 4, 8, 16, 32, 64], s: [2, 4, 8, 16, 32, 64]],
             size <- sizes,
             do: {kind, size}
           ) ++ [f: 8, f8_e4m3fn: 8, f: 16, bf: 16, f: 32, f: 64, c: 64],
           &{Nx.Type.to_string(&1), &1}
         )

  ## Writing

  @doc """
  The interface of an exported function, and its weights by name.

  `inputs` are the program's, as `Emily.Compiler.Lowering` gives them: positions among the tensors of all
  arguments, and tensors that the function holds.
  """
  @spec of([Arguments.t()], Nx.Container.t(), [
          {:parameter, non_neg_integer()} | {:constant, T.t()}
        ]) ::
          {map(), [{String.t(), T.t()}]}
  def of(arguments, expression, inputs) do
    given = Enum.filter(arguments, &(&1.kind == :input))
    parameters = Enum.flat_map(given, & &1.leaves)
    sources = arguments |> sources() |> List.to_tuple()

    {inputs, weights} =
      inputs |> Enum.with_index() |> Enum.map(&input(&1, sources)) |> Enum.unzip()

    result = Composite.traverse(expression, &Nx.to_template/1)

    interface = %{
      parameters: Enum.map(parameters, &parameter/1),
      inputs: inputs,
      results: result_names(result),
      containers: %{
        arguments: for(%{value: value} <- given, do: container(value)),
        result: container(result)
      }
    }

    {interface, weights |> Enum.reject(&is_nil/1) |> Enum.uniq_by(&elem(&1, 0))}
  end

  # What each tensor of the arguments is, by its position: a parameter's number, or a weight.
  defp sources(arguments) do
    {sources, _count} =
      Enum.flat_map_reduce(arguments, 0, fn
        %{kind: :input, leaves: leaves}, count ->
          {Enum.with_index(leaves, fn _leaf, at -> {:parameter, count + at} end),
           count + length(leaves)}

        %{leaves: leaves}, count ->
          {for({name, tensor} <- leaves, do: {:weight, name, tensor}), count}
      end)

    sources
  end

  defp input({{:parameter, position}, _at}, sources) do
    case elem(sources, position) do
      {:parameter, number} -> {%{parameter: number}, nil}
      {:weight, name, tensor} -> {%{weight: name}, {name, tensor}}
    end
  end

  defp input({{:constant, tensor}, at}, _sources) do
    name = "constant.#{at}"
    {%{weight: name}, {name, tensor}}
  end

  defp parameter({name, %T{} = tensor}) do
    %{
      name: name,
      type: Nx.Type.to_string(tensor.type),
      shape: Keyword.values(tensor.vectorized_axes) ++ Tuple.to_list(tensor.shape)
    }
  end

  defp result_names(%T{}), do: ["result"]
  defp result_names(number) when is_number(number), do: ["result"]

  defp result_names(result),
    do: for("result." <> path <- Arguments.paths(result, "result"), do: path)

  defp container(%T{} = tensor) do
    axes = for {name, size} <- tensor.vectorized_axes, do: [name, size]
    %{tensor: %{names: tensor.names, vectorized: axes}}
  end

  defp container(%Complex{}), do: container(Nx.template({}, :c64))

  defp container(%struct{}) do
    raise ArgumentError,
          "expected arguments and results to be tensors, tuples and maps of them, got: a struct, " <>
            "#{inspect(struct)}, which no file can hold"
  end

  defp container(tuple) when is_tuple(tuple),
    do: %{tuple: tuple |> Tuple.to_list() |> Enum.map(&container/1)}

  defp container(map) when is_map(map),
    do: %{map: for({key, value} <- Enum.sort(map), do: [key(key), container(value)])}

  defp container(number) when is_number(number), do: container(Nx.template({}, :s32))

  defp key(key) when is_atom(key), do: %{atom: Atom.to_string(key)}
  defp key(key) when is_binary(key), do: %{string: key}
  defp key(key) when is_integer(key), do: %{integer: key}

  defp key(key) do
    raise ArgumentError,
          "expected the keys of maps to be atoms, strings and integers, got: #{inspect(key)}"
  end

  ## Reading

  @typedoc """
  What `Emily.Program.import/2` needs of an interface.

  The file numbers the tensors of the arguments, and those of the result. Nx's own order is another one
  where a key has become a string, so a container of these numbers says which tensor goes where.
  """
  @type t :: %{
          inputs: [{:parameter, non_neg_integer()} | :weight],
          arguments: [Nx.Container.t()],
          order: [non_neg_integer()],
          outputs: [T.t()],
          result: Nx.Container.t()
        }

  @doc """
  The interface in the JSON of a file that the core has checked.

  `arguments` has templates and `order` their numbers in Nx's order; `outputs` has templates, and `result`
  their numbers in their places. With `:existing` names become those atoms that there are; with `:atoms`
  all of them.
  """
  @spec read(map(), :existing | :atoms) :: t()
  def read(%{"containers" => containers} = interface, keys) do
    {arguments, parameters} = numbered(containers["arguments"], interface["parameters"], keys)
    {[result], outputs} = numbered([containers["result"]], interface["outputs"], keys)

    %{
      inputs: Enum.map(interface["inputs"], &source/1),
      arguments:
        Composite.traverse(List.to_tuple(arguments), &elem(parameters, &1)) |> Tuple.to_list(),
      order: Composite.flatten_list(arguments),
      outputs: Tuple.to_list(outputs),
      result: result
    }
  end

  @doc "The tensors of the arguments, in the order of the file."
  @spec leaves(t(), [Nx.Container.t()]) :: [T.t()]
  def leaves(interface, arguments) do
    numbered = Enum.zip(interface.order, Composite.flatten_list(arguments))
    for {_number, leaf} <- Enum.sort_by(numbered, &elem(&1, 0)), do: Nx.to_tensor(leaf)
  end

  defp source(%{"parameter" => position}), do: {:parameter, position}
  defp source(%{"weight" => _name}), do: :weight

  # Containers with the numbers of their tensors, and templates of these.
  defp numbered(containers, types, keys) do
    {containers, {[], templates, _count}} = arranged(containers, {types, [], 0}, keys)
    {containers, templates |> Enum.reverse() |> List.to_tuple()}
  end

  defp arranged(containers, acc, keys),
    do: Enum.map_reduce(containers, acc, &arrange(&1, &2, keys))

  defp arrange(%{"tensor" => tensor}, {[type | types], templates, count}, keys),
    do: {count, {types, [template(tensor, type, keys) | templates], count + 1}}

  defp arrange(%{"tuple" => parts}, acc, keys) do
    {parts, acc} = arranged(parts, acc, keys)
    {List.to_tuple(parts), acc}
  end

  defp arrange(%{"map" => pairs}, acc, keys) do
    {parts, acc} = pairs |> Enum.map(&List.last/1) |> arranged(acc, keys)
    map = pairs |> Enum.map(&(&1 |> hd() |> read_key(keys))) |> Enum.zip(parts) |> Map.new()

    if map_size(map) != length(pairs) do
      raise ArgumentError,
            "expected the keys of a map to differ where atoms that there are not are strings, " <>
              "got: #{Enum.map_join(pairs, ", ", &inspect(hd(&1)))}"
    end

    {map, acc}
  end

  defp template(tensor, %{"type" => type, "shape" => shape}, keys) do
    axes = for [name, size] <- tensor["vectorized"], do: {axis!(name, keys), size}
    names = for name <- tensor["names"], do: name && atom(name, keys)
    own = shape |> Enum.drop(length(axes)) |> List.to_tuple()
    %{Nx.template(own, Map.fetch!(@types, type), names: names) | vectorized_axes: axes}
  end

  defp read_key(%{"atom" => name}, keys), do: atom(name, keys) || name
  defp read_key(%{"string" => name}, _keys), do: name
  defp read_key(%{"integer" => integer}, _keys), do: integer

  # A vectorized axis needs its name.
  defp axis!(name, keys) do
    atom(name, keys) ||
      raise ArgumentError,
            "expected the vectorized axis #{inspect(name)} to be an atom that there is, got: none " <>
              "(keys: :atoms makes it, for files that you trust)"
  end

  # nil stands for no atom, and is none that anyone calls an axis.
  defp atom(name, :atoms), do: String.to_atom(name)

  defp atom(name, :existing) do
    String.to_existing_atom(name)
  rescue
    ArgumentError -> nil
  end
end
