defmodule Emily.Artifact.InterruptionTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{Install, Manifest, Priv}
  alias Emily.Test.InstallProcess

  describe "SIGKILL" do
    @describetag timeout: 300_000

    test "at any event of an upgrade leaves the old state or the new one, and heals", context do
      # What stood there before has a file more, and others of another size.
      old = Map.put(ReleaseFactory.files("of old"), "THIRD-PARTY", "MIT too")
      republish(context, ReleaseFactory.archive(context.artifact, old))
      assert {:ok, _manifest} = install(context)
      template = keep(context)

      new = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(2_000_000))
      republish(context, ReleaseFactory.archive(context.artifact, new))
      states = states(context, template, old, new)

      # Nothing changes for anyone before the decision, and everything at it.
      assert Enum.dedup(states) == [:old, :new]
    end

    test "at any event of a first install leaves nothing or the new state, and heals", context do
      template = keep(context)
      new = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(2_000_000))
      republish(context, ReleaseFactory.archive(context.artifact, new))
      assert Enum.dedup(states(context, template, %{}, new)) == [:old, :new]
    end
  end

  # The state that a kill at each event leaves behind.
  defp states(context, template, old, new) do
    {output, 0} = InstallProcess.run(context)

    {progress, steps} =
      output |> String.split("\n", trim: true) |> Enum.split_with(&(&1 =~ ":progress"))

    assert "{:step, :decided}" in steps
    assert progress != []
    # The announcement of the download, then the bytes, then what is done with them.
    [announcement | steps] = steps

    for event <- [announcement, "1", "700000", "1900000"] ++ steps do
      restore(context, template)
      {_output, status} = InstallProcess.run(context, kill_at: event)
      assert status == 137, "expected a kill at #{event}, got status #{status}"

      state = state_left(context, old, new, event)
      nothing_unverified(context, [old, new])

      assert {:ok, _manifest} = install(context)
      assert installed(context) == new
      assert leftovers(context) == []
      state
    end
  end

  defp state_left(context, old, new, event) do
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

  # Whatever stands at a final path of the cache is whole.
  defp nothing_unverified(context, states) do
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

  defp keep(context) do
    template = Path.join(context.dir, "template")
    File.mkdir_p!(template)
    File.mkdir_p!(context.cache)
    for folder <- [context.cache, context.priv], do: copy(folder, template)
    template
  end

  defp restore(context, template) do
    for folder <- [context.cache, context.priv] do
      File.rm_rf!(folder)
      copy(Path.join(template, Path.basename(folder)), context.dir)
    end
  end

  defp copy(folder, into), do: {_output, 0} = System.cmd("cp", ["-a", folder, into])

  describe "two installs at once on one cache" do
    test "download once; the second waits, and says on what", context do
      test = self()

      # The archive is served when both are known to be at work.
      hold = fn _request ->
        send(test, {:asked, self()})

        receive do
          :go -> :ok
        end
      end

      script(context, %{context.artifact.asset => [{:call, hold}]})
      other = Path.join(context.dir, "other_priv")

      first = InstallProcess.start(context)
      assert_receive {:asked, request}, 30_000
      {:os_pid, pid} = Port.info(first, :os_pid)

      second = InstallProcess.start(context, priv: other)
      assert_receive {^second, {:data, {:eol, "{:info, \"Waiting for process " <> rest}}}, 30_000
      asset = context.artifact.asset

      assert rest ==
               "#{pid}, which holds the lock on #{asset}: #{context.cache}/v1/locks/#{asset}.1\"}"

      send(request, :go)
      assert_receive {^first, {:exit_status, 0}}, 30_000
      assert_receive {^second, {:exit_status, 0}}, 30_000
      assert HttpServer.count(context.server, context.artifact.asset) == 1
      assert installed(context) == context.files
      assert installed(%{context | priv: other}) == context.files
      assert leftovers(context) == []
    end
  end
end
