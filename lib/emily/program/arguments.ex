defmodule Emily.Program.Arguments do
  @moduledoc false
  # The arguments of a function that is exported, and those that an imported one is called with.

  alias Nx.Tensor, as: T

  # A function of more has to be called with a container.
  @most 16

  @typedoc """
  An argument with its name and, for each of its tensors, the path and the tensor itself.

  `:input` is given by the caller of the program, `:weights` are written to its file, and `:static` is no
  tensor.
  """
  @type t :: %{
          kind: :input | :weights | :static,
          name: String.t(),
          value: term(),
          leaves: [{String.t(), T.t()}]
        }

  @doc "What each argument is."
  @spec classify!([term()], [atom() | String.t()] | nil) :: [t()]
  def classify!(arguments, names) when is_list(arguments) do
    names = names || for at <- 0..(length(arguments) - 1)//1, do: "arg#{at}"

    if length(names) != length(arguments) do
      raise ArgumentError,
            "expected :names to be #{length(arguments)} names, got: #{inspect(names)}"
    end

    classified = Enum.zip_with(arguments, names, &classify/2)
    inputs = Enum.count(classified, &(&1.kind == :input))

    if inputs > @most do
      raise ArgumentError,
            "expected at most #{@most} arguments that are templates, got: #{inputs}; " <>
              "pass a tuple or a map of them"
    end

    classified
  end

  def classify!(arguments, _names) do
    raise ArgumentError, "expected the arguments to be a list, got: #{inspect(arguments)}"
  end

  @doc "The arguments to trace the function with."
  @spec values([t()]) :: [term()]
  def values(arguments), do: for(argument <- arguments, do: argument.value)

  defp classify(value, name) when is_list(value) or is_function(value),
    do: %{kind: :static, name: to_string(name), value: value, leaves: []}

  defp classify(value, name) do
    name = to_string(name)

    {_template, leaves} =
      Nx.LazyContainer.traverse(value, [], fn template, fun, leaves ->
        {template, [fun.() | leaves]}
      end)

    leaves = Enum.reverse(leaves)

    kind =
      case leaves |> Enum.map(&template?/1) |> Enum.uniq() do
        [false] -> :weights
        [_, _] -> mixed!(name)
        _templates_or_none -> :input
      end

    %{kind: kind, name: name, value: value, leaves: Enum.zip(paths(value, name, leaves), leaves)}
  end

  defp template?(%T{data: %Nx.TemplateBackend{}}), do: true
  defp template?(%T{}), do: false

  defp mixed!(name) do
    raise ArgumentError,
          "expected #{name} to hold templates, for what the caller gives, or tensors, for weights, got: both"
  end

  # Structs are passed over, and numbered, since which of their fields are tensors is their own affair.
  defp paths(value, name, leaves) do
    case paths(value, name) do
      paths when length(paths) == length(leaves) -> paths
      _other -> for at <- 0..(length(leaves) - 1)//1, do: "#{name}.#{at}"
    end
  end

  @doc "The paths of a container's tensors, in Nx's order, which begin with `name`."
  @spec paths(term(), String.t()) :: [String.t()]
  def paths(%T{}, name), do: [name]

  def paths(%_struct{} = struct, name) do
    case Nx.Container.impl_for(struct) do
      nil -> []
      _container -> struct |> Nx.Container.reduce([], &[&1 | &2]) |> Enum.reverse() |> each(name)
    end
  end

  def paths(tuple, name) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> each(name)

  def paths(map, name) when is_map(map) do
    for {key, value} <- Enum.sort(map), path <- paths(value, "#{name}.#{key(key)}"), do: path
  end

  def paths(_number, name), do: [name]

  defp each(values, name) do
    for {value, at} <- Enum.with_index(values), path <- paths(value, "#{name}.#{at}"), do: path
  end

  defp key(key) when is_atom(key) or is_binary(key) or is_integer(key), do: to_string(key)
  defp key(key), do: inspect(key)

  @doc "A function of `arity` arguments that calls `fun` with a list of them."
  @spec function(non_neg_integer(), ([term()] -> term())) :: function()
  for arity <- 0..@most do
    arguments = Macro.generate_arguments(arity, __MODULE__)

    def function(unquote(arity), fun),
      do: fn unquote_splicing(arguments) -> fun.(unquote(arguments)) end
  end

  def function(arity, _fun) do
    raise ArgumentError, "expected a program of at most #{@most} arguments, got: #{arity}"
  end

  @doc "Raises if the arguments are not what the program takes."
  @spec check!([Nx.Container.t()], [term()]) :: :ok
  def check!(templates, arguments) do
    for {{template, argument}, at} <- Enum.with_index(Enum.zip(templates, arguments)),
        not Nx.compatible?(template, argument) do
      raise ArgumentError,
            "expected argument #{at} of the program to be #{shown(template)}, got: #{shown(argument)}"
    end

    :ok
  end

  defp shown(%T{} = tensor) do
    axes = for {name, size} <- tensor.vectorized_axes, do: "[#{name}: #{size}]"

    own =
      for {name, size} <- Enum.zip(tensor.names, Tuple.to_list(tensor.shape)),
          do: if(name, do: "[#{name}: #{size}]", else: "[#{size}]")

    IO.iodata_to_binary([Nx.Type.to_string(tensor.type), axes, own])
  end

  defp shown(tuple) when is_tuple(tuple),
    do: "{#{tuple |> Tuple.to_list() |> Enum.map_join(", ", &shown/1)}}"

  defp shown(map) when is_map(map) and not is_struct(map) do
    pairs = for {key, value} <- Enum.sort(map), do: "#{inspect(key)} => #{shown(value)}"
    "%{#{Enum.join(pairs, ", ")}}"
  end

  defp shown(number) when is_number(number), do: number |> Nx.to_tensor() |> shown()
  defp shown(other), do: inspect(other)
end
