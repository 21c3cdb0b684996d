defmodule Emily.Artifact.CacheTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact.{Cache, CacheError}
  alias Emily.Settings
  alias Emily.Test.HostileFolder

  @problem HostileFolder.problem()

  defp locate(variables, environment \\ %{os_type: {:unix, :linux}}) do
    Cache.locate(Settings.load(variables, []), environment)
  end

  describe "locate/2" do
    test "goes by EMILY_CACHE, then XDG_CACHE_HOME, then HOME" do
      variables = %{"EMILY_CACHE" => "/a", "XDG_CACHE_HOME" => "/b", "HOME" => "/c"}
      assert {:ok, %{folder: "/a", root: "/a/v1"}} = locate(variables)
      assert {:ok, %{folder: "/b/emily"}} = locate(Map.delete(variables, "EMILY_CACHE"))
      assert {:ok, %{folder: "/c/.cache/emily"}} = locate(%{"HOME" => "/c"})
    end

    test "asks macOS for its folder" do
      environment = fn answer ->
        %{
          os_type: {:unix, :darwin},
          command: fn "getconf", ["DARWIN_USER_CACHE_DIR"] -> answer end
        }
      end

      assert {:ok, %{folder: "/var/folders/x/C/emily"}} =
               locate(%{"HOME" => "/c"}, environment.({:ok, "/var/folders/x/C/\n"}))

      assert {:ok, %{folder: "/c/.cache/emily"}} = locate(%{"HOME" => "/c"}, environment.(:error))
    end

    test "is an error where nothing says" do
      assert {:error, error} = locate(%{})

      assert Exception.message(error) ==
               "could not find the cache: neither EMILY_CACHE nor HOME says where it is\n\n" <>
                 "Set EMILY_CACHE to a folder of your own and run `mix compile`."
    end
  end

  test "the cache's folders are for their owner alone", context do
    assert {:ok, _manifest} = install(context)

    for folder <- ["", "v1", "v1/tmp", "v1/locks", "v1/unpacked"] do
      stat = File.stat!(Path.join(context.cache, folder))
      assert Bitwise.band(stat.mode, 0o777) == 0o700
    end
  end

  test "what a killed install left in tmp/ is swept, and what is another's is not", context do
    tmp = Path.join(context.cache, "v1/tmp")
    File.mkdir_p!(tmp)
    {:ok, machine} = :inet.gethostname()
    mine = Path.join(tmp, "#{context.artifact.asset}.#{machine}.00ff")
    others = Path.join(tmp, "#{context.artifact.asset}.elsewhere.00ff")
    File.write!(mine, "half a download")
    File.write!(others, "half a download")

    assert {:ok, _manifest} = install(context)
    refute File.exists?(mine)
    assert File.exists?(others)
  end

  test "free_bytes/1 looks at the nearest folder that exists", context do
    {:ok, cache} = locate(%{"EMILY_CACHE" => Path.join(context.dir, "not/there")})
    assert {:ok, bytes} = Cache.free_bytes(cache)
    assert bytes > 0
  end

  test "a file in the cache's place is an error, and heals", context do
    File.write!(context.cache, "")
    assert {:error, %CacheError{} = error} = install(context)

    assert Exception.message(error) == """
           could not look at the cache: not a directory

             path  #{context.cache}/v1

           Set EMILY_CACHE to a folder of your own and run `mix compile`.\
           """

    File.rm!(context.cache)
    assert {:ok, _manifest} = install(context)
  end

  describe "a cache of someone else" do
    test "is told by the number of the user" do
      dir = temporary_folder()
      {:ok, cache} = locate(%{"EMILY_CACHE" => dir})
      mine = File.stat!(dir).uid
      assert Cache.check_owner(cache, mine) == :ok
      assert {:error, error} = Cache.check_owner(cache, mine + 1)

      assert Exception.message(error) == """
             could not use the cache: it belongs to someone else

               path      #{dir}
               expected  user #{mine + 1}
               actual    user #{mine}

             Set EMILY_CACHE to a folder of your own and run `mix compile`.\
             """
    end

    @tag skip: @problem
    test "is refused, whichever of its folders it is, and heals", context do
      for folder <- ["", "v1", "v1/tmp", "v1/unpacked"] do
        path = Path.join(context.cache, folder)
        File.mkdir_p!(path)
        File.chown!(path, 65_534)

        assert {:error, %CacheError{} = error} = install(context)

        assert Exception.message(error) == """
               could not use the cache: it belongs to someone else

                 path      #{path}
                 expected  user 0
                 actual    user 65534

               Set EMILY_CACHE to a folder of your own and run `mix compile`.\
               """

        assert installed(context) == %{}
        assert HttpServer.requests(context.server) == []
        File.chown!(path, 0)
      end

      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
    end
  end

  describe "a read-only cache" do
    @tag skip: @problem
    test "is refused, and heals", context do
      HostileFolder.small(context.cache, 4_096)
      HostileFolder.read_only(context.cache)
      assert {:error, %CacheError{} = error} = install(context)

      assert Exception.message(error) == """
             could not make the cache: the file system is read-only

               path  #{context.cache}/v1

             Set EMILY_CACHE to a folder of your own and run `mix compile`.\
             """

      assert installed(context) == %{}
      HostileFolder.writable(context.cache)
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files

      # With all its folders in place, it fails where it would lock.
      HostileFolder.read_only(context.cache)
      assert {:error, error} = install(context)
      assert Exception.message(error) =~ "read-only file system"
      assert installed(context) == context.files
      HostileFolder.writable(context.cache)
      assert {:ok, _manifest} = install(context)
    end
  end

  describe "a full disk" do
    # Bytes that do not compress: the archive and its files are of one size.
    setup context do
      files = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(400_000))
      republish(context, ReleaseFactory.archive(context.artifact, files))
      %{files: files}
    end

    @tag skip: @problem
    test "while downloading is refused, leaves nothing, and heals", context do
      full(context, 200, "could not write the download: the disk is full")
    end

    @tag skip: @problem
    test "while unpacking is refused, leaves nothing, and heals", context do
      full(context, 600, "could not unpack the archive: the disk is full")
    end

    defp full(context, kibibytes, headline) do
      HostileFolder.small(context.cache, kibibytes)
      assert {:error, %CacheError{reason: :enospc} = error} = install(context)

      assert [^headline, "", "  path  " <> path, "", next] =
               error |> Exception.message() |> String.split("\n")

      assert String.starts_with?(path, Path.join(context.cache, "v1/tmp/"))

      assert next ==
               "Free some space, or set EMILY_CACHE to a folder with more of it, and run `mix compile`."

      assert installed(context) == %{}
      assert leftovers(context) == []

      HostileFolder.enlarge(context.cache, 4_096)
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
    end
  end

  @tag skip: @problem
  test "priv/ on another file system than the cache gets copies", context do
    HostileFolder.small(context.cache, 4_096)
    assert {:ok, _manifest} = install(context)
    assert installed(context) == context.files
    assert File.stat!(Path.join(context.priv, "libemily.so")).links == 1
  end
end
