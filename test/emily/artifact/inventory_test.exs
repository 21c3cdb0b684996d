defmodule Emily.Artifact.InventoryTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact.{Cache, CacheError, Inventory, Lock}

  setup context do
    {:ok, cache} = Cache.locate(Emily.Settings.load(%{"EMILY_CACHE" => context.cache}, []))
    %{store: cache}
  end

  defp put(context, name, bytes \\ "1234") do
    path = Path.join([context.cache, "v1", name])
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, bytes)
    path
  end

  test "an absent cache holds nothing", context do
    assert Inventory.of(context.store) ==
             {:ok, %Inventory{releases: [], leftovers: [], foreign: []}}
  end

  test "releases are told by version, and what is not Emily's is left alone", context do
    assert {:ok, _manifest} = install(context)
    old = "emily-nif-0.1.0-cpu-linux-x86_64.tar.gz"
    put(context, old)
    put(context, "unpacked/0123456789abcdef-emily-nif-0.1.0-cpu-linux-x86_64/libmlx.so")
    left = put(context, "tmp/#{old}.host.0a1b")
    put(context, "tmp/#{old}.0123456789abcdef.part")
    notes = put(context, "notes.txt")
    other = put(context, "unpacked/thesis/chapter.tex")

    assert {:ok, inventory} = Inventory.of(context.store)
    assert [%{version: "0.1.0", bytes: 8, asset: ^old}, current] = inventory.releases
    assert {current.asset, current.version} == {context.artifact.asset, context.artifact.version}
    # An xtask may be writing to the part.
    assert [%{paths: [^left], bytes: 4}] = inventory.leftovers
    assert inventory.foreign == [notes, Path.dirname(other)]

    for entry <- inventory.releases ++ inventory.leftovers,
        do: assert(Inventory.remove(context.store, entry) == :ok)

    Inventory.remove_folders(context.store)
    assert {:ok, %{releases: [], leftovers: []}} = Inventory.of(context.store)
    assert File.read!(notes) == "1234"
    assert File.exists?(other)
    assert installed(context) == context.files

    # The next install has all it needs.
    assert {:ok, _manifest} = install(context)
  end

  test "nothing is left of a cache with nothing else in it", context do
    assert {:ok, _manifest} = install(context)
    assert {:ok, %{releases: [entry]}} = Inventory.of(context.store)
    assert Inventory.remove(context.store, entry) == :ok
    Inventory.remove_folders(context.store)
    refute File.exists?(context.cache)
  end

  test "an empty folder that never was a cache stays", context do
    File.mkdir_p!(context.cache)
    assert {:ok, %{releases: [], leftovers: []}} = Inventory.of(context.store)
    Inventory.remove_folders(context.store)
    assert File.dir?(context.cache)
  end

  test "what an install is at work on is left to it", context do
    assert {:ok, _manifest} = install(context)
    assert {:ok, %{releases: [entry]}} = Inventory.of(context.store)

    Lock.with_lock(Cache.lock(context.store, entry.asset), fn _waiting -> :ok end, fn ->
      assert Inventory.remove(context.store, entry) == {:busy, System.pid()}
    end)

    assert {:ok, %{releases: [^entry]}} = Inventory.of(context.store)
  end

  test "a link is removed, and not what it leads to", context do
    precious = Path.join(context.dir, "precious")
    File.mkdir_p!(precious)
    File.write!(Path.join(precious, "file"), "kept")
    put(context, "unpacked/none")
    name = "0123456789abcdef-emily-nif-0.1.0-cpu-linux-x86_64"
    File.ln_s!(precious, Path.join([context.cache, "v1/unpacked", name]))

    assert {:ok, %{releases: [entry]}} = Inventory.of(context.store)
    assert Inventory.remove(context.store, entry) == :ok
    assert File.read!(Path.join(precious, "file")) == "kept"
  end

  test "a cache that is none is refused", context do
    File.write!(context.cache, "a file")
    assert {:error, %CacheError{reason: :enotdir}} = Inventory.of(context.store)
  end

  @tag skip: Emily.Test.HostileFolder.problem()
  test "the cache of another user is refused", context do
    assert {:ok, _manifest} = install(context)
    File.chown!(context.cache, 12_345)
    assert {:error, %CacheError{reason: :owner}} = Inventory.of(context.store)
  end
end
