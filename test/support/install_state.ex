defmodule Emily.Test.InstallState do
  @moduledoc """
  What an install that was killed left behind, and what it was before.
  """

  import ExUnit.Assertions

  alias Emily.Artifact
  alias Emily.Artifact.{Install, Manifest, Priv}
  alias Emily.Test.ReleaseFactory

  @doc "Which state an interrupted install left in `priv/`: `:old`, `:new`, and nothing else."
  def state_left(context, old, new, event) do
    # A first install has no companion missing beside a library that could be loaded.
    if old == %{} and File.exists?(Path.join(context.priv, "libemily.so")) do
      assert Map.take(installed_files(context), Map.keys(new)) == new
    end

    assert Priv.settle(context.priv) == :ok

    case installed_files(context) do
      ^old -> :old
      ^new -> :new
      other -> flunk("a mixture after #{event}: #{inspect(Map.keys(other))}")
    end
    |> tap(fn state ->
      assert Install.installed?(context.priv, context.artifact) == (state == :new or old != %{})
    end)
  end

  # Without what a killed install gathered, which the next one sweeps.
  defp installed_files(context) do
    for {name, bytes} <- visible(context.priv),
        name != Manifest.name(),
        into: %{},
        do: {name, bytes}
  end

  defp visible(folder) do
    for name <- File.ls!(folder), not String.starts_with?(name, "."), into: %{} do
      {name, File.read!(Path.join(folder, name))}
    end
  end

  @doc "Asserts that whatever stands at a final place of the cache is whole."
  def nothing_unverified(context, states) do
    archives =
      for files <- states, files != %{}, do: ReleaseFactory.archive(context.artifact, files)

    archive = Path.join([context.cache, "v1", context.artifact.asset])
    if File.exists?(archive), do: assert(File.read!(archive) in archives)

    sidecars = Enum.map(archives, &ReleaseFactory.sidecar(context.artifact, &1))
    sidecar = Path.join([context.cache, "v1", Artifact.sidecar(context.artifact)])
    if File.exists?(sidecar), do: assert(File.read!(sidecar) in sidecars)

    for folder <- Path.wildcard(Path.join(context.cache, "v1/unpacked/*")) do
      {:ok, manifest} = Manifest.read(folder)
      assert Manifest.mismatches(manifest, folder, :sha256) == []
    end
  end

  @doc "Keeps what the cache and `priv/` hold now."
  def keep(context) do
    template = Path.join(context.dir, "template")
    File.mkdir_p!(template)
    File.mkdir_p!(context.cache)
    for folder <- [context.cache, context.priv], do: copy(folder, template)
    template
  end

  @doc "Puts it back."
  def restore(context, template) do
    for folder <- [context.cache, context.priv] do
      File.rm_rf!(folder)
      copy(Path.join(template, Path.basename(folder)), context.dir)
    end
  end

  defp copy(folder, into), do: {_output, 0} = System.cmd("cp", ["-a", folder, into])
end
