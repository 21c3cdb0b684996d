defmodule Mix.Tasks.Emily.Golden do
  @shortdoc "Records what Nx.BinaryBackend computes, for the tests of the native core"

  @moduledoc """
  Records what `Nx.BinaryBackend` computes into `test/golden/`, one file an operation, and what
  `Nx.Type` says of types into `types.json` there. Programs and what it gives for them go into
  `programs/`; Emily itself writes these, so its library must be there.

      EMILY_DEPS_PATH=… MIX_ENV=test mix emily.golden [--into DIR] [--models DIR]

  ## Options

    * `--into DIR` - record into another folder, whose golden files are replaced
    * `--models DIR` - a folder with the compiled modules of Axon, Polaris and Bumblebee, whose models are recorded,
      too; without it these stay as they are, unless the project has the libraries

  It is for maintainers, and needs Nx. Run it after an operation or a kind of case was added, or to
  follow a new version of Nx. The files depend on nothing but the recorder and Nx, so a diff shows
  what changed in either. `Emily.Golden.Case` describes their contents.
  """

  use Mix.Task

  alias Emily.Golden

  @families [
    Golden.Creation,
    Golden.Movement,
    Golden.Unary,
    Golden.Binary,
    Golden.Choice,
    Golden.Reduction,
    Golden.Reducer,
    Golden.Order,
    Golden.Contraction,
    Golden.Fused,
    Golden.Window,
    Golden.Convolution,
    Golden.Fourier,
    Golden.Parts,
    Golden.Indexing,
    Golden.Cumulative,
    Golden.Closeness,
    Golden.Matrices,
    Golden.NarrowMatrices,
    Golden.Spectra
  ]

  @impl true
  def run(args) do
    {folder, models} = folders(args)
    if models, do: Golden.Models.add(models)
    {:ok, _started} = Application.ensure_all_started(:emily)
    Nx.default_backend(Nx.BinaryBackend)

    File.mkdir_p!(folder)
    folder |> Path.join("*.jsonl.gz") |> Path.wildcard() |> Enum.each(&File.rm!/1)

    cases = Enum.flat_map(@families, & &1.cases())
    File.write!(Path.join(folder, "types.json"), Golden.Types.table())
    by_name = Enum.group_by(cases, &Golden.Case.name/1)
    sizes = for {name, cases} <- by_name, do: write(folder, name, cases)
    {programs, missing} = folder |> Path.join("programs") |> Golden.Programs.record()

    Mix.shell().info(
      "#{length(cases)} cases of #{map_size(by_name)} operations, #{Enum.sum(sizes)} bytes; " <>
        "programs, #{programs} bytes" <> not_recorded(missing)
    )
  end

  defp not_recorded([]), do: ""

  defp not_recorded(names),
    do: "; without Axon or Bumblebee, #{Enum.join(names, ", ")} stay as they are"

  defp folders(args) do
    case OptionParser.parse!(args, strict: [into: :string, models: :string]) do
      {options, []} ->
        {Keyword.get(options, :into, "test/golden"), options[:models]}

      {_options, more} ->
        Mix.raise("expected no arguments but --into DIR and --models DIR, got: #{inspect(more)}")
    end
  end

  # zlib writes neither a name nor a time, so equal cases give equal files.
  defp write(folder, name, cases) do
    bytes = cases |> Enum.map(&Golden.Case.to_line/1) |> :zlib.gzip()
    File.write!(Path.join(folder, "#{name}.jsonl.gz"), bytes)
    byte_size(bytes)
  end
end
