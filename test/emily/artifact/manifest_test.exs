defmodule Emily.Artifact.ManifestTest do
  use ExUnit.Case, async: true
  doctest Emily.Artifact.Manifest

  alias Emily.Artifact.{Manifest, ManifestError}
  alias Emily.Test.ReleaseFactory

  @digest String.duplicate("0", 64)

  defp data, do: ReleaseFactory.manifest(ReleaseFactory.artifact(), ReleaseFactory.files())

  defp manifest(changes \\ %{}),
    do: data() |> Map.merge(changes) |> JSON.encode!() |> Manifest.decode()

  test "is read with every field" do
    assert {:ok, manifest} = manifest()
    assert %{variant: "cpu", target: "linux-x86_64", nif_version: "2.17"} = manifest
    assert manifest.mlx == %{"version" => "0.32.2", "mlx_c" => "0.7.0", "from" => "wheel"}

    assert manifest.requires == %{
             glibc: "2.35",
             glibcxx: "3.4.30",
             macos: nil,
             libraries: ["libc.so.6"]
           }

    assert hd(manifest.files).name == "LICENSE"
  end

  test "of a later kind may say more" do
    assert {:ok, _manifest} = manifest(%{"more" => 1})
  end

  @file_entry %{"name" => "libemily.so", "size" => 1, "sha256" => @digest}

  @refused [
    {%{"schema" => 2}, "schema", "1", "2"},
    {%{"schema" => nil}, "schema", "1", "nothing"},
    {%{"package" => "other"}, "package", ~s("emily"), ~s("other")},
    {%{"version" => ""}, "version", "a string", ~s("")},
    {%{"variant" => 1}, "variant", "a string", "1"},
    {%{"target" => nil}, "target", "a string", "nothing"},
    {%{"nif_version" => "new"}, "nif_version", "a version of numbers and dots", ~s("new")},
    {%{"mlx" => %{"version" => 1}}, "version", "a string", "1"},
    {%{"mlx" => []}, "mlx", "an object", "[]"},
    {%{"requires" => []}, "requires", "an object", "[]"},
    {%{"requires" => %{"glibc" => "2.x"}}, "glibc", "a version of numbers and dots", ~s("2.x")},
    {%{"requires" => %{"libraries" => ["../x"]}}, "libraries", "a list of file names",
     ~s(["../x"])},
    {%{"files" => []}, "files", "a list of at least one file", "[]"},
    {%{"files" => "all"}, "files", "a list of at least one file", ~s("all")},
    {%{"files" => ["libemily.so"]}, "files", "an object for every file", ~s("libemily.so")},
    {%{"files" => [%{@file_entry | "name" => "../x"}]}, "name", "a plain file name", ~s("../x")},
    {%{"files" => [%{@file_entry | "name" => "a/b"}]}, "name", "a plain file name", ~s("a/b")},
    {%{"files" => [%{@file_entry | "name" => "a\nb"}]}, "name", "a plain file name", ~S("a\nb")},
    {%{"files" => [%{@file_entry | "name" => ".."}]}, "name", "a plain file name", ~s("..")},
    {%{"files" => [%{@file_entry | "name" => ".next"}]}, "name", "a plain file name",
     ~s(".next")},
    {%{"files" => [%{@file_entry | "size" => -1}]}, "size", "a number of bytes", "-1"},
    {%{"files" => [%{@file_entry | "size" => 1.5}]}, "size", "a number of bytes", "1.5"},
    {%{"files" => [%{@file_entry | "sha256" => "AB"}]}, "sha256",
     "64 lower-case hexadecimal digits", ~s("AB")},
    {%{"files" => [@file_entry, %{@file_entry | "name" => "LICENSE"}]}, "files",
     "LICENSE, libemily.so", "libemily.so, LICENSE"},
    {%{"files" => [@file_entry, @file_entry]}, "files", "every name once", "libemily.so twice"}
  ]

  for {changes, field, expected, actual} <- @refused do
    test "is refused where #{field} should be #{expected} and is #{actual}" do
      assert {:error, %ManifestError{} = error} = manifest(unquote(Macro.escape(changes)))

      assert {error.field, error.expected, error.actual} ==
               {unquote(field), unquote(expected), unquote(actual)}
    end
  end

  test "must be JSON, an object, and small" do
    assert {:error, %{expected: "JSON", actual: ~s("{")}} = Manifest.decode("{")
    assert {:error, %{expected: "JSON"}} = Manifest.decode(<<255>>)
    assert {:error, %{expected: "a JSON object", actual: ~s("[]")}} = Manifest.decode("[]")

    assert {:error, %{expected: "at most 1048576 bytes", actual: "1048577 bytes"}} =
             Manifest.decode(String.duplicate(" ", 1_048_577))
  end

  describe "check/2" do
    test "refuses what the archive may not be" do
      artifact = ReleaseFactory.artifact()

      table = [
        {%{"version" => "9.9.9"}, "version", artifact.version, "9.9.9"},
        {%{"target" => "linux-arm64"}, "target", "linux-x86_64", "linux-arm64"},
        {%{"files" => [%{@file_entry | "name" => "evil.so"}, @file_entry]}, "files",
         "only files of the allow-list", "evil.so"},
        {%{"files" => [@file_entry, %{@file_entry | "name" => "manifest.json"}]}, "files",
         "only files of the allow-list", "manifest.json"},
        {%{"files" => [%{@file_entry | "name" => "LICENSE"}]}, "files", "libemily.so", "LICENSE"}
      ]

      for {changes, field, expected, actual} <- table do
        {:ok, manifest} = manifest(changes)
        assert {:error, error} = Manifest.check(manifest, artifact)
        assert {error.field, error.expected, error.actual} == {field, expected, actual}
      end
    end
  end

  describe "problems/2" do
    @hosts [
      {[], []},
      {[glibc: "2.35"], []},
      {[glibc: "2.34"], ["glibc 2.35 or newer; this machine has 2.34"]},
      {[glibc: nil], ["glibc 2.35 or newer; this machine has none"]},
      {[glibcxx: "3.4.9"], ["libstdc++ with GLIBCXX 3.4.30 or newer; this machine has 3.4.9"]},
      {[nif: "2.18"], []},
      {[nif: "2.16"], ["a VM with NIF version 2.17; this one has 2.16"]},
      {[nif: "3.0"], ["a VM with NIF version 2.17; this one has 3.0"]},
      {[libraries: %{}], ["the shared library libc.so.6"]},
      {[target: "linux-arm64"], ["the target linux-x86_64; this machine is linux-arm64"]},
      {[target: nil, arch: "riscv64"],
       ["the target linux-x86_64; this machine is linux on riscv64"]}
    ]

    for {host, problems} <- @hosts do
      test "of a host with #{inspect(host)} are #{inspect(problems)}" do
        {:ok, manifest} = manifest()
        host = ReleaseFactory.host(unquote(Macro.escape(host)))
        assert Manifest.problems(manifest, host) == unquote(problems)
      end
    end

    test "of a Mac are its version" do
      {:ok, manifest} =
        manifest(%{
          "target" => "macos-arm64",
          "requires" => %{"macos" => "26.2", "libraries" => []}
        })

      host = ReleaseFactory.host(os: "macos", target: "macos-arm64", macos: "15.1")
      assert Manifest.problems(manifest, host) == ["macOS 26.2 or newer; this machine has 15.1"]
      assert Manifest.problems(manifest, %{host | macos: "26.2.1"}) == []
    end
  end

  describe "a driver that is not there" do
    test "is told, and is no reason to refuse" do
      needs = %{"glibc" => "2.35", "libraries" => ["libc.so.6", "libcuda.so.1", "libcudnn.so.9"]}
      {:ok, manifest} = manifest(%{"variant" => "cuda13", "requires" => needs})
      libraries = %{"libc.so.6" => "/lib/libc.so.6", "libcudnn.so.9" => "/lib/libcudnn.so.9"}
      host = ReleaseFactory.host(libraries: libraries)

      assert Manifest.check_host(manifest, host) == :ok

      assert Manifest.absent_driver(manifest, host) ==
               "libcuda.so.1, the NVIDIA driver, is not on this machine: Emily for cuda13 is installed, and " <>
                 "loads where there is one. `mix emily.doctor` says whether all is there"

      there = %{host | libraries: Map.put(libraries, "libcuda.so.1", "/lib/libcuda.so.1")}
      assert Manifest.absent_driver(manifest, there) == nil

      bare = %{host | libraries: Map.delete(libraries, "libcudnn.so.9")}

      assert Manifest.problems(manifest, bare) == [
               "the shared library libcudnn.so.9, which is in pip's nvidia-cudnn-cu13, or " <>
                 "libcudnn9-cuda-13 of NVIDIA's apt suite"
             ]
    end
  end

  describe "mismatches/3" do
    test "tells what is missing, of another size, and of other bytes" do
      dir = Emily.Test.InstallCase.temporary_folder()
      {:ok, manifest} = manifest()
      for {name, bytes} <- ReleaseFactory.files(), do: File.write!(Path.join(dir, name), bytes)
      assert Manifest.mismatches(manifest, dir, :sha256) == []

      File.write!(Path.join(dir, "LICENSE"), "BSD")
      File.write!(Path.join(dir, "libmlx.so"), "short")
      File.rm!(Path.join(dir, "libemily.so"))
      File.mkdir!(Path.join(dir, "libemily.so"))
      size = byte_size(ReleaseFactory.files()["libmlx.so"])

      assert Manifest.mismatches(manifest, dir, :size) ==
               [{"libemily.so", :missing}, {"libmlx.so", {:size, size, 5}}]

      [mit, bsd] = Enum.map(["MIT", "BSD"], &Emily.Artifact.Checksum.of/1)

      assert Manifest.mismatches(manifest, dir, :sha256) ==
               [
                 {"LICENSE", {:sha256, mit, bsd}},
                 {"libemily.so", :missing},
                 {"libmlx.so", {:size, size, 5}}
               ]
    end
  end
end
