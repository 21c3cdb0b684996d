defmodule Emily.Artifact.PrivTest do
  use ExUnit.Case, async: true

  import Emily.Test.InstallCase, only: [temporary_folder: 0]

  alias Emily.Artifact.{Manifest, Priv}
  alias Emily.Test.ReleaseFactory

  # An unpacked archive, as the cache holds it.
  defp unpacked(files) do
    folder = temporary_folder()
    text = JSON.encode!(ReleaseFactory.manifest(ReleaseFactory.artifact(), files))
    File.write!(Path.join(folder, "manifest.json"), text)
    for {name, bytes} <- files, do: File.write!(Path.join(folder, name), bytes)
    {:ok, manifest} = Manifest.decode(text)
    {folder, manifest}
  end

  defp place(priv, files, step \\ fn _step -> :ok end) do
    {folder, manifest} = unpacked(files)
    Priv.place(priv, folder, manifest, step)
  end

  defp files(priv) do
    for name <- File.ls!(priv), name != "manifest.json", into: %{} do
      {name, File.read!(Path.join(priv, name))}
    end
  end

  test "the library arrives after what it needs, and the manifest last" do
    priv = temporary_folder()
    test = self()
    assert place(priv, ReleaseFactory.files(), &send(test, &1)) == :ok
    {:messages, steps} = Process.info(self(), :messages)

    assert Enum.drop_while(steps, &(&1 != :decided)) == [
             :decided,
             placed: "LICENSE",
             placed: "libmlx.so",
             placed: "libopenblas.so.0",
             placed: "libemily.so",
             placed: "manifest.json"
           ]
  end

  test "settling does nothing where nothing was interrupted" do
    priv = temporary_folder()
    assert Priv.settle(priv) == :ok
    assert place(priv, ReleaseFactory.files()) == :ok
    before = files(priv)
    assert Priv.settle(priv) == :ok
    assert files(priv) == before
  end

  test "an exchange that was decided and interrupted is finished by whoever comes, even by many" do
    old = Map.put(ReleaseFactory.files("of old"), "THIRD-PARTY", "MIT too")

    for interruption <- [
          :decided,
          {:placed, "libmlx.so"},
          {:removed, "THIRD-PARTY"},
          {:placed, "manifest.json"}
        ] do
      priv = temporary_folder()
      assert place(priv, old) == :ok
      new = ReleaseFactory.files("anew")

      catch_throw(
        place(priv, new, fn
          ^interruption -> throw(:interrupted)
          _step -> :ok
        end)
      )

      refute Priv.installed?(priv, ReleaseFactory.artifact(), :size)

      assert 1..8
             |> Enum.map(fn _n -> Task.async(fn -> Priv.settle(priv) end) end)
             |> Task.await_many()
             |> Enum.uniq() == [:ok]

      assert files(priv) == new
      assert Priv.installed?(priv, ReleaseFactory.artifact(), :sha256)
    end
  end

  test "an install that comes upon an interrupted one replaces it" do
    priv = temporary_folder()

    catch_throw(
      place(priv, ReleaseFactory.files("of old"), fn
        :decided -> throw(:interrupted)
        _step -> :ok
      end)
    )

    assert place(priv, ReleaseFactory.files("anew")) == :ok
    assert files(priv) == ReleaseFactory.files("anew")
  end

  test "clean/1 removes what an install may have put there, and nothing else" do
    priv = temporary_folder()
    File.write!(Path.join(priv, ".gitkeep"), "")
    assert place(priv, ReleaseFactory.files()) == :ok
    File.mkdir_p!(Path.join(priv, ".next"))
    File.mkdir_p!(Path.join(priv, ".staging-00ff"))
    assert Priv.clean(priv) == :ok
    assert File.ls!(priv) == [".gitkeep"]
  end

  test "damage that keeps a size is seen by reading" do
    priv = temporary_folder()
    artifact = ReleaseFactory.artifact()
    assert place(priv, ReleaseFactory.files()) == :ok
    File.rm!(Path.join(priv, "LICENSE"))
    File.write!(Path.join(priv, "LICENSE"), "BSD")
    assert Priv.installed?(priv, artifact, :size)
    refute Priv.installed?(priv, artifact, :sha256)
  end
end
