defmodule Mix.Tasks.Emily.Golden do
  @shortdoc "Records what Nx.BinaryBackend computes, for the tests of the native core"

  @moduledoc """
  Records what `Nx.BinaryBackend` computes into `test/golden/`, one file an operation.

      EMILY_DEPS_PATH=… MIX_ENV=test mix emily.golden

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
    Golden.Order,
    Golden.Contraction
  ]

  @impl true
  def run(_args) do
    {:ok, _started} = Application.ensure_all_started(:nx)
    Nx.default_backend(Nx.BinaryBackend)

    folder = Path.join(File.cwd!(), "test/golden")
    File.mkdir_p!(folder)
    folder |> Path.join("*.jsonl.gz") |> Path.wildcard() |> Enum.each(&File.rm!/1)

    cases = Enum.flat_map(@families, & &1.cases())
    by_name = Enum.group_by(cases, &Golden.Case.name/1)
    sizes = for {name, cases} <- by_name, do: write(folder, name, cases)

    Mix.shell().info(
      "#{length(cases)} cases of #{map_size(by_name)} operations, #{Enum.sum(sizes)} bytes"
    )
  end

  # zlib writes neither a name nor a time, so equal cases give equal files.
  defp write(folder, name, cases) do
    bytes = cases |> Enum.map(&Golden.Case.to_line/1) |> :zlib.gzip()
    File.write!(Path.join(folder, "#{name}.jsonl.gz"), bytes)
    byte_size(bytes)
  end
end
