defmodule Emily.Safetensors do
  @moduledoc """
  Checkpoints in safetensors files, of one part or several.

  A tensor goes from the file to where MLX computes with it, and never through the memory of the BEAM:

      params = Emily.Safetensors.load("Qwen3-0.6B", progress: true)
      params["model.norm.weight"]

  `open/2` reads no more than what the tensors are called, and `read/3` one of them at a time.

  What `path` is may be a `.safetensors` file, the `.safetensors.index.json` of a checkpoint in several parts, or a
  folder with one of these, as HuggingFace's models are. Files may come from anywhere: a header that makes no sense
  is refused, and so is a part outside of the index' folder.
  """

  alias Emily.Artifact.Console
  alias Emily.{Backend, Native, Stream}
  alias Nx.Tensor, as: T

  @enforce_keys [:path, :entries]
  defstruct [:path, :entries]

  @typedoc "An open checkpoint."
  @opaque t :: %__MODULE__{
            path: Path.t(),
            entries: %{String.t() => entry()}
          }

  # The file; its place among the files and the tensor's in it; type and shape, or why there are none in Nx.
  @typep entry :: {
           reference(),
           {non_neg_integer(), non_neg_integer()},
           {Nx.Type.t(), [non_neg_integer()]} | String.t()
         }

  # So many bytes are read before the bar moves on; a batch is over sooner than a waiter notices.
  @batch 128 * 1024 * 1024

  @doc """
  Opens a checkpoint.

  ## Examples

      iex> path = Path.join(System.tmp_dir!(), "emily-#{System.pid()}-open.safetensors")
      iex> Emily.Safetensors.save(%{"a" => Nx.tensor([1, 2]), "b" => Nx.tensor(0.5)}, path)
      :ok
      iex> opened = Emily.Safetensors.open(path)
      iex> Emily.Safetensors.names(opened)
      ["a", "b"]
      iex> Nx.to_number(Emily.Safetensors.read(opened, "b"))
      0.5
      iex> File.rm!(path)
      :ok

  Raises `ArgumentError` if there is no checkpoint or one that makes no sense.
  """
  @spec open(Path.t()) :: t()
  def open(path) do
    path = Path.expand(path)
    stream = Stream.reference(Stream.device())

    entries =
      for {{file, wanted}, part} <- Enum.with_index(parts!(path)),
          {name, file, place, entry} <- entries(stream, file, wanted),
          reduce: %{} do
        %{^name => _other} ->
          refuse(path, "tensors of different names", "two called #{inspect(name)}")

        entries ->
          Map.put(entries, name, {file, {part, place}, entry})
      end

    %__MODULE__{path: path, entries: entries}
  end

  @doc "What the tensors are called, in the alphabet's order."
  @spec names(t()) :: [String.t()]
  def names(%__MODULE__{entries: entries}), do: entries |> Map.keys() |> Enum.sort()

  @doc """
  The tensor's type and shape, as a template of Nx.

  Raises `ArgumentError` if there is no such tensor, or one of a type that Nx does not have.
  """
  @spec template(t(), String.t()) :: T.t()
  def template(%__MODULE__{} = opened, name) do
    {_file, _place, {type, shape}} = entry!(opened, name)
    Nx.template(List.to_tuple(shape), type)
  end

  @doc """
  Reads one tensor, each time anew.

  ## Options

    * `:device` - where it is to be, `:cpu` or `:gpu`; the process' default device when absent

  Raises as `template/2` does, and if the file cannot be read.
  """
  @spec read(t(), String.t(), keyword()) :: T.t()
  def read(%__MODULE__{} = opened, name, opts \\ []) do
    device = validate!(opts, [:device])[:device] || Stream.device()
    {file, _place, _entry} = entry!(opened, name)
    [{^name, tensor}] = read_batch(opened, file, [name], device)
    tensor
  end

  @doc """
  Reads a checkpoint's tensors, by name.

  Several are read at a time, in the order in which they lie in their files.

  ## Options

    * `:only` - names, or a function of a name that says whether to read that tensor; all of them when absent
    * `:device` - as that of `read/3`
    * `:progress` - whether to draw a bar, on a terminal; not when absent
  """
  @spec load(Path.t(), keyword()) :: %{String.t() => T.t()}
  def load(path, opts \\ []) do
    opts = validate!(opts, [:device, :only, progress: false])
    device = opts[:device] || Stream.device()
    opened = open(path)
    names = opened |> chosen(opts[:only]) |> Enum.uniq()
    sizes = Map.new(names, &{&1, Nx.byte_size(template(opened, &1))})
    total = sizes |> Map.values() |> Enum.sum()
    console = if opts[:progress], do: console()

    {tensors, _done} =
      opened
      |> batches(names, sizes)
      |> Enum.flat_map_reduce(0, fn {file, names}, done ->
        tensors = read_batch(opened, file, names, device)
        done = Enum.sum_by(names, &sizes[&1]) + done
        if console && total > 0, do: Console.show(console, {:progress, done, total})
        {tensors, done}
      end)

    Map.new(tensors)
  end

  @doc """
  Writes tensors by name to a file.

  A file that is there already is replaced once all is written. Raises `ArgumentError` if it cannot be.
  """
  @spec save(%{String.t() => Nx.Tensor.t()}, Path.t()) :: :ok
  def save(tensors, path) do
    device = Stream.device()
    {names, tensors} = tensors |> Enum.sort_by(&elem(&1, 0)) |> Enum.unzip()
    references = for tensor <- tensors, do: tensor |> Nx.to_tensor() |> Backend.reference(device)
    path = Path.expand(path)
    partial = "#{path}.#{System.pid()}-#{System.unique_integer([:positive])}.partial"
    reference = make_ref()

    try do
      stream = Stream.reference(device)
      :pending = Native.safetensors_write(stream, partial, names, references, reference)
      :ok = Emily.await(reference)
      rename!(partial, path)
    after
      File.rm(partial)
    end
  end

  # A file with names of tensors in it, of about @batch bytes together.
  defp batches(opened, names, sizes) do
    names
    |> Enum.sort_by(fn name -> elem(opened.entries[name], 1) end)
    |> Enum.chunk_by(fn name -> elem(opened.entries[name], 0) end)
    |> Enum.flat_map(fn [first | _] = names ->
      {file, _place, _entry} = opened.entries[first]
      for batch <- chunk(names, sizes), do: {file, batch}
    end)
  end

  defp chunk(names, sizes) do
    Enum.chunk_while(
      names,
      {[], 0},
      fn name, {batch, bytes} ->
        case {[name | batch], bytes + sizes[name]} do
          {batch, bytes} when bytes >= @batch -> {:cont, Enum.reverse(batch), {[], 0}}
          begun -> {:cont, begun}
        end
      end,
      fn
        {[], 0} -> {:cont, {[], 0}}
        {batch, _bytes} -> {:cont, Enum.reverse(batch), {[], 0}}
      end
    )
  end

  defp read_batch(opened, file, names, device) do
    reference = make_ref()
    :pending = Native.safetensors_read(Stream.reference(device), file, names, reference)

    for {name, ref} <- Enum.zip(names, Emily.await(reference)),
        do: {name, %{template(opened, name) | data: %Backend{ref: ref, device: device}}}
  end

  defp rename!(from, to) do
    with {:error, reason} <- File.rename(from, to),
         do: refuse(to, "a file that can be written", :file.format_error(reason))
  end

  defp console,
    do: Console.new(info: &IO.puts/1, warning: &IO.puts/1, draw: Console.terminal())

  defp chosen(opened, nil), do: names(opened)
  defp chosen(opened, only) when is_function(only, 1), do: opened |> names() |> Enum.filter(only)
  defp chosen(_opened, only) when is_list(only), do: only

  defp chosen(_opened, other) do
    raise ArgumentError,
          "expected :only to be a list of names, or a function of one, got: #{inspect(other)}"
  end

  defp validate!(opts, known) do
    opts = Keyword.validate!(opts, known)

    if opts[:device] not in [nil, :cpu, :gpu],
      do:
        raise(
          ArgumentError,
          "expected :device to be :cpu or :gpu, got: #{inspect(opts[:device])}"
        )

    opts
  end

  defp entry!(%__MODULE__{path: path, entries: entries}, name) do
    case entries do
      %{^name => {_file, _place, {_type, _shape}} = entry} -> entry
      %{^name => {_file, _place, message}} -> raise ArgumentError, message
      _none -> refuse(path, "a tensor #{inspect(name)}", "none of that name")
    end
  end

  defp entries(stream, path, wanted) do
    reference = make_ref()
    :pending = Native.safetensors_open(stream, path, reference)
    {file, entries} = Emily.await(reference)
    entries = for {{name, entry}, place} <- Enum.with_index(entries), do: {name, {place, entry}}
    known = Map.new(entries)

    for name <- wanted || Map.keys(known) do
      case known do
        %{^name => {place, entry}} -> {name, file, place, entry}
        _none -> refuse(path, "a tensor #{inspect(name)}, which the index says it has", "none")
      end
    end
  end

  # The files, each with the names of what is to be found there; nil stands for all.
  defp parts!(path) do
    cond do
      String.ends_with?(path, ".json") -> indexed!(path)
      File.dir?(path) -> folder!(path)
      true -> [{path, nil}]
    end
  end

  defp folder!(path) do
    files = path |> File.ls!() |> Enum.sort()

    case Enum.filter(files, &String.ends_with?(&1, ".safetensors.index.json")) do
      [index] ->
        indexed!(Path.join(path, index))

      [] ->
        parts =
          for file <- files,
              Path.extname(file) == ".safetensors",
              do: {Path.join(path, file), nil}

        if parts == [], do: refuse(path, "a folder with a .safetensors file", "none"), else: parts

      several ->
        refuse(path, "one index", Enum.join(several, " and "))
    end
  end

  defp indexed!(path) do
    with {:ok, text} <- File.read(path),
         {:ok, %{"weight_map" => %{} = map}} <- JSON.decode(text) do
      map
      |> Enum.group_by(&part!(path, elem(&1, 1)), &elem(&1, 0))
      |> Enum.sort()
    else
      {:error, reason} when is_atom(reason) ->
        refuse(path, "an index that can be read", :file.format_error(reason))

      _other ->
        refuse(path, "an index with a weight_map", "something else")
    end
  end

  defp part!(path, name) do
    if not is_binary(name) or Path.basename(name) != name or name in [".", "..", ""],
      do: refuse(path, "parts in the folder of the index", inspect(name))

    Path.join(Path.dirname(path), name)
  end

  @spec refuse(Path.t(), String.t(), String.t() | charlist()) :: no_return()
  defp refuse(path, expected, got),
    do: raise(ArgumentError, "#{path}: expected #{expected}, got: #{got}")
end
