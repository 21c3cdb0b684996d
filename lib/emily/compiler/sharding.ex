defmodule Emily.Compiler.Sharding do
  @moduledoc false
  # Functions of whole tensors that are given and returned in shards, one for each device of an `Nx.Mesh`.
  #
  # MLX has no partitioner. The devices of a mesh are logical ones here: the function becomes one program, which puts the shards
  # together, computes with whole tensors, as the function says it, and cuts the results up.

  alias Nx.Defn.{Composite, Expr}
  alias Nx.Tensor, as: T

  @enforce_keys [:mesh, :sizes, :inputs]
  defstruct [:mesh, :sizes, :inputs, :outputs]

  @typedoc "How a tensor is cut up: for each axis the axes of the mesh among which it is divided."
  @type axes :: [[non_neg_integer()]]

  @type t :: %__MODULE__{
          mesh: Nx.Mesh.t(),
          sizes: [pos_integer()],
          # For each leaf of the arguments.
          inputs: [axes()],
          # For each leaf of the results, in the terms of the caller; nil has them follow the arguments.
          outputs: [map()] | nil
        }

  @doc """
  The sharding that the options ask for, for arguments with these parameters.

  Raises `ArgumentError` if they do not fit the mesh or the parameters.
  """
  @spec new(Nx.Mesh.t(), [Nx.Container.t()], keyword()) :: t()
  def new(%Nx.Mesh{shape: shape} = mesh, vars, options) do
    sizes = if is_tuple(shape), do: Tuple.to_list(shape), else: [nil]

    if not Enum.all?(sizes, &(is_integer(&1) and &1 > 0)) do
      raise ArgumentError,
            "expected the mesh to have a shape of positive integers, got: #{inspect(shape)}"
    end

    inputs = options[:input_shardings]
    outputs = options[:output_shardings]

    if not (is_list(inputs) and length(inputs) == length(vars)) do
      raise ArgumentError,
            "expected :input_shardings to be a list of #{length(vars)} maps, one for each argument, " <>
              "got: #{inspect(inputs)}"
    end

    if not (is_nil(outputs) or is_list(outputs)) do
      raise ArgumentError,
            "expected :output_shardings to be a list of maps, got: #{inspect(outputs)}"
    end

    inputs =
      for {sharding, var} <- Enum.zip(inputs, vars), leaf <- Composite.flatten_list([var]) do
        axes(sharding, leaf, sizes)
      end

    %__MODULE__{mesh: mesh, sizes: sizes, inputs: inputs, outputs: outputs}
  end

  @doc "The number of devices, which is that of the shards."
  @spec count(t()) :: pos_integer()
  def count(sharding), do: Enum.product(sharding.sizes)

  @doc """
  The parameters of all shards, for which those of the first one stand: one device's after another's.
  """
  @spec parameters(t(), [Nx.Container.t()]) :: [[Nx.Container.t()]]
  def parameters(sharding, vars) do
    leaves = length(sharding.inputs)

    for device <- 0..(count(sharding) - 1) do
      {vars, _last} =
        Enum.map_reduce(vars, device * leaves, fn var, first ->
          Composite.traverse(var, first, fn leaf, position ->
            {Expr.parameter(leaf, :root, position), position + 1}
          end)
        end)

      vars
    end
  end

  @doc """
  The arguments of all shards, one after another's.

  Raises `ArgumentError` if there are other shards than devices, or if they differ from the first one.
  """
  @spec arguments(t(), [Nx.Container.t()], [[(-> T.t())]]) :: [(-> T.t())]
  def arguments(sharding, vars, shards) do
    if length(shards) != count(sharding) do
      raise ArgumentError,
            "expected #{count(sharding)} lists of arguments, one for each device of the mesh " <>
              "#{inspect(sharding.mesh.name)}, got: #{length(shards)}"
    end

    templates = for leaf <- Composite.flatten_list(vars), do: Nx.to_template(leaf)
    for {shard, at} <- Enum.with_index(shards), leaf <- shard(shard, at, templates), do: leaf
  end

  defp shard(shard, at, templates) do
    if length(shard) != length(templates) do
      raise ArgumentError,
            "expected shard #{at} to have #{length(templates)} tensors, as shard 0 has, got: #{length(shard)}"
    end

    for {argument, template} <- Enum.zip(shard, templates) do
      tensor = argument.()

      if not Nx.compatible?(tensor, template) do
        raise ArgumentError,
              "expected shard #{at} to have #{inspect(template)}, as shard 0 has, " <>
                "got: #{inspect(Nx.to_template(tensor))}"
      end

      fn -> tensor end
    end
  end

  @doc "The function of all shards' parameters that gives all shards' results, as a tuple."
  @spec wrap(t(), ([Nx.Container.t()] -> Nx.Container.t())) ::
          ([[Nx.Container.t()]] -> tuple())
  def wrap(sharding, fun) do
    fn [first | _others] = shards ->
      leaves = for shard <- shards, do: Composite.flatten_list(shard)

      whole =
        leaves
        |> Enum.zip_with(&List.to_tuple/1)
        |> Enum.zip_with(sharding.inputs, &joined(&1, &2, sharding.sizes))

      result = fun.(refilled(first, whole))
      outputs = outputs(sharding, result, fn sizes -> fun.(shrunk(sharding, first, sizes)) end)
      List.to_tuple(for device <- devices(sharding), do: cut(result, outputs, device, sharding))
    end
  end

  ## What the caller asks for

  # Where a map says nothing of an axis, all devices have the whole of it.
  defp axes(sharding, %T{} = leaf, sizes) when is_map(sharding) do
    by_axis =
      for {axis, mesh_axes} <- sharding, reduce: %{} do
        by_axis ->
          index = Nx.axis_index(leaf, axis)
          check!(mesh_axes, sizes)
          if is_map_key(by_axis, index), do: refuse("each axis to be named once", sharding)
          Map.put(by_axis, index, mesh_axes)
      end

    used = by_axis |> Map.values() |> Enum.concat()
    if used != Enum.uniq(used), do: refuse("each axis of the mesh to be used once", sharding)
    for axis <- Nx.axes(leaf), do: Map.get(by_axis, axis, [])
  end

  defp axes(sharding, _leaf, _sizes),
    do: refuse("a map of axes to lists of axes of the mesh", sharding)

  defp check!(mesh_axes, sizes) do
    fits = &(is_integer(&1) and &1 in 0..(length(sizes) - 1)//1)

    if not (is_list(mesh_axes) and Enum.all?(mesh_axes, fits)),
      do: refuse("a list of axes of a mesh that has #{length(sizes)}", mesh_axes)
  end

  defp refuse(expected, got),
    do: raise(ArgumentError, "expected a sharding to have #{expected}, got: #{inspect(got)}")

  ## Together

  # The coordinates of all devices in the mesh, in order.
  defp devices(sharding) do
    Enum.reduce(Enum.reverse(sharding.sizes), [[]], fn size, rest ->
      for at <- 0..(size - 1), others <- rest, do: [at | others]
    end)
  end

  defp joined(shards, axes, sizes) do
    joined(shards, Enum.with_index(axes), Enum.map(sizes, fn _ -> 0 end), sizes)
  end

  defp joined(shards, [], device, sizes) do
    number =
      sizes |> Enum.zip(device) |> Enum.reduce(0, fn {size, at}, sum -> sum * size + at end)

    elem(shards, number)
  end

  defp joined(shards, [{mesh_axes, axis} | axes], device, sizes) do
    pieces =
      for piece <- 0..(pieces(mesh_axes, sizes) - 1),
          do: joined(shards, axes, placed(piece, Enum.reverse(mesh_axes), device, sizes), sizes)

    case pieces do
      [whole] -> whole
      several -> Nx.concatenate(several, axis: axis)
    end
  end

  # The device with this piece of an axis: the last axis of the mesh counts fastest.
  defp placed(_piece, [], device, _sizes), do: device

  defp placed(piece, [axis | axes], device, sizes) do
    size = Enum.at(sizes, axis)
    placed(div(piece, size), axes, List.replace_at(device, axis, rem(piece, size)), sizes)
  end

  defp pieces(mesh_axes, sizes), do: mesh_axes |> Enum.map(&Enum.at(sizes, &1)) |> Enum.product()

  defp refilled(vars, leaves) do
    {vars, []} =
      Enum.map_reduce(vars, leaves, fn var, leaves ->
        Composite.traverse(var, leaves, fn _leaf, [leaf | leaves] -> {leaf, leaves} end)
      end)

    vars
  end

  ## Apart

  # Which axes of the results are divided, and among what.
  defp outputs(%{outputs: nil} = sharding, result, traced) do
    whole = for leaf <- Composite.flatten_list([result]), do: leaf.shape
    empty = for shape <- whole, do: List.duplicate([], tuple_size(shape))

    for {size, mesh_axis} <- order(sharding), size > 1, reduce: empty do
      outputs ->
        with {:ok, smaller} <- shapes(traced, {mesh_axis, size}),
             true <- length(smaller) == length(whole) do
          Enum.zip_with([outputs, whole, smaller], fn [axes, shape, smaller] ->
            followed(axes, shape, smaller, {mesh_axis, size}, sharding.sizes)
          end)
        else
          _it_does_not_fit -> outputs
        end
    end
  end

  defp outputs(%{outputs: outputs} = sharding, result, _traced) do
    leaves = Composite.flatten_list([result])

    if length(outputs) != length(leaves) do
      raise ArgumentError,
            "expected :output_shardings to be a list of #{length(leaves)} maps, one for each tensor that the " <>
              "function gives, got: #{inspect(outputs)}"
    end

    for {output, leaf} <- Enum.zip(outputs, leaves) do
      axes = axes(output, leaf, sharding.sizes)

      for {size, mesh_axes} <- Enum.zip(Tuple.to_list(leaf.shape), axes),
          rem(size, pieces(mesh_axes, sharding.sizes)) != 0,
          do: refuse("axes that its pieces divide, for #{inspect(leaf.shape)}", output)

      axes
    end
  end

  # The axes of the mesh in the order in which arguments have them.
  defp order(sharding) do
    used = sharding.inputs |> Enum.concat() |> Enum.concat() |> Enum.uniq()
    for axis <- used, do: {Enum.at(sharding.sizes, axis), axis}
  end

  # A result follows an axis of the mesh along the axis that shrinks with the arguments': the function is
  # traced as if they had only the part of one device of that axis.
  defp followed(axes, shape, smaller, {mesh_axis, count}, sizes)
       when tuple_size(shape) == tuple_size(smaller) do
    shrunk =
      for {size, small, axis} <-
            Enum.zip([Tuple.to_list(shape), Tuple.to_list(smaller), axes(shape)]),
          size != small,
          do: {axis, size, size == small * count}

    with [{axis, size, true}] <- shrunk,
         mesh_axes = Enum.at(axes, axis) ++ [mesh_axis],
         0 <- rem(size, pieces(mesh_axes, sizes)) do
      List.replace_at(axes, axis, mesh_axes)
    else
      _otherwise -> axes
    end
  end

  defp followed(axes, _shape, _smaller, _mesh_axis, _sizes), do: axes

  defp axes(shape), do: Enum.to_list(0..(tuple_size(shape) - 1)//1)

  defp shapes(traced, mesh_axis) do
    {:ok, for(leaf <- Composite.flatten_list([traced.(mesh_axis)]), do: leaf.shape)}
  rescue
    # Some functions ask for sizes. Their results are whole on all devices.
    _error -> :error
  end

  # The arguments' parameters, whole but for one axis of the mesh.
  defp shrunk(sharding, vars, {mesh_axis, count}) do
    leaves =
      for {leaf, axes} <- Enum.zip(Composite.flatten_list(vars), sharding.inputs) do
        shape =
          for {size, mesh_axes} <- Enum.zip(Tuple.to_list(leaf.shape), axes) do
            whole = size * pieces(mesh_axes, sharding.sizes)
            if mesh_axis in mesh_axes, do: div(whole, count), else: whole
          end

        Expr.parameter(%{leaf | shape: List.to_tuple(shape)}, :root, 0)
      end

    refilled(vars, leaves)
  end

  # The shard of a device.
  defp cut(result, outputs, device, sharding) do
    {result, []} =
      Composite.traverse(result, outputs, fn leaf, [axes | outputs] ->
        {piece(leaf, Enum.with_index(axes), device, sharding.sizes), outputs}
      end)

    result
  end

  defp piece(leaf, axes, device, sizes) do
    for {[_ | _] = mesh_axes, axis} <- axes, reduce: leaf do
      leaf ->
        length = div(elem(leaf.shape, axis), pieces(mesh_axes, sizes))

        number =
          Enum.reduce(mesh_axes, 0, fn mesh_axis, sum ->
            sum * Enum.at(sizes, mesh_axis) + Enum.at(device, mesh_axis)
          end)

        Nx.slice_along_axis(leaf, number * length, length, axis: axis)
    end
  end
end
