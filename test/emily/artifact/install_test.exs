defmodule Emily.Artifact.InstallTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{Cache, Checksum, Install}
  alias Emily.Settings

  defp cache(context) do
    {:ok, cache} = Cache.locate(Settings.load(%{"EMILY_CACHE" => context.cache}, []))
    cache
  end

  describe "a healthy release" do
    test "is fetched, verified and installed", context do
      assert {:ok, manifest} = install(context)
      assert manifest.variant == "cpu"
      assert installed(context) == context.files
      assert leftovers(context) == []
      assert Install.installed?(context.priv, context.artifact)
      assert said(:info) == ["Downloading #{context.server.url}#{context.artifact.asset}"]
      assert said(:warning) == []
    end

    test "is downloaded once for as long as its checksum stays", context do
      assert {:ok, _manifest} = install(context)
      assert {:ok, _manifest} = install(context)
      assert HttpServer.count(context.server, context.artifact.asset) == 1
      assert HttpServer.count(context.server, Artifact.sidecar(context.artifact)) == 2
    end

    test "replaces the cached one when it was published again", context do
      assert {:ok, _manifest} = install(context)
      files = ReleaseFactory.files("two")
      republish(context, ReleaseFactory.archive(context.artifact, files))
      assert {:ok, _manifest} = install(context)
      assert installed(context) == files
    end

    test "takes the files of another variant away", context do
      File.write!(Path.join(context.priv, "libemily.dylib"), "of before")
      File.write!(Path.join(context.priv, ".gitkeep"), "")
      assert {:ok, _manifest} = install(context)
      assert installed(context) == Map.put(context.files, ".gitkeep", "")
    end

    test "keeps the mode of libraries", context do
      assert {:ok, _manifest} = install(context)
      mode = fn name -> Bitwise.band(File.stat!(Path.join(context.priv, name)).mode, 0o777) end
      assert {mode.("libemily.so"), mode.("LICENSE")} == {0o755, 0o644}
    end

    test "never writes into a file that is in place", context do
      assert {:ok, _manifest} = install(context)
      library = Path.join(context.priv, "libemily.so")
      {:ok, mapped} = :file.open(library, [:read, :raw, :binary])

      republish(context, ReleaseFactory.archive(context.artifact, ReleaseFactory.files("two")))
      assert {:ok, _manifest} = install(context)
      assert :file.read(mapped, 12) == {:ok, "libemily one"}
      assert File.read!(library) =~ "libemily two"
    end
  end

  describe "installed?/2" do
    test "is false when a file is gone, changed its size, or is of another version", context do
      refute Install.installed?(context.priv, context.artifact)
      assert {:ok, _manifest} = install(context)
      assert Install.installed?(context.priv, context.artifact)
      refute Install.installed?(context.priv, %{context.artifact | version: "9.0.0"})
      refute Install.installed?(context.priv, %{context.artifact | variant: "cuda12"})

      File.write!(Path.join(context.priv, "LICENSE"), "longer than it was")
      refute Install.installed?(context.priv, context.artifact)
      File.rm!(Path.join(context.priv, "LICENSE"))
      refute Install.installed?(context.priv, context.artifact)

      assert {:ok, _manifest} = install(context)
      assert Install.installed?(context.priv, context.artifact)
    end
  end

  describe "damage in the cache" do
    test "to the archive is healed by another download", context do
      assert {:ok, _manifest} = install(context)
      File.write!(Cache.archive(cache(context), context.artifact), "damaged")
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert HttpServer.count(context.server, context.artifact.asset) == 2
    end

    test "to an unpacked file is healed from the archive", context do
      assert {:ok, _manifest} = install(context)
      digest = Checksum.of(context.release[context.artifact.asset])
      folder = Cache.unpacked(cache(context), context.artifact, digest)
      library = Path.join(folder, "libmlx.so")
      size = File.stat!(library).size

      # As a stray write into priv/ would: the same inode, the same size.
      File.write!(library, String.duplicate("x", size))
      assert File.read!(Path.join(context.priv, "libmlx.so")) == String.duplicate("x", size)

      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert HttpServer.count(context.server, context.artifact.asset) == 1
    end

    test "to an unpacked manifest is healed from the archive", context do
      assert {:ok, _manifest} = install(context)
      digest = Checksum.of(context.release[context.artifact.asset])

      manifest =
        cache(context) |> Cache.unpacked(context.artifact, digest) |> Path.join("manifest.json")

      File.write!(manifest, "{}")
      assert {:ok, _manifest} = install(context)
      assert Install.installed?(context.priv, context.artifact)
    end
  end

  describe "without a network" do
    test "a verified cache does, with a warning", context do
      assert {:ok, _manifest} = install(context)
      HttpServer.stop(context.server)
      File.rm_rf!(context.priv)
      File.mkdir_p!(context.priv)

      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files

      assert said(:warning) == [
               "#{context.artifact.asset} comes from the cache, where it was verified: " <>
                 "#{context.server.url}#{Artifact.sidecar(context.artifact)} could not be asked " <>
                 "whether it is still current (connection refused)"
             ]
    end

    test "an unverified cache is refused", context do
      assert {:ok, _manifest} = install(context)
      HttpServer.stop(context.server)
      before = installed(context)

      for path <- [
            Cache.archive(cache(context), context.artifact),
            Cache.sidecar(cache(context), context.artifact),
            Cache.signature(cache(context), context.artifact)
          ] do
        bytes = File.read!(path)
        File.write!(path, "damaged")
        assert {:error, %Artifact.HttpError{reason: :econnrefused}} = install(context)
        assert said(:warning) == []
        File.write!(path, bytes)
      end

      assert installed(context) == before
      assert {:ok, _manifest} = install(context)
    end

    test "and without a cache it is an error, and heals", context do
      HttpServer.stop(context.server)
      assert {:error, error} = install(context)
      assert installed(context) == %{}

      assert Exception.message(error) == """
             could not download a file of Emily's release: connection refused

               url       #{context.server.url}#{Artifact.sidecar(context.artifact)}
               attempts  1

             Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
             """

      assert {:ok, _manifest} = install(context, url: HttpServer.start(context.release).url)
      assert installed(context) == context.files
    end

    test "a server that is down counts as no network", context do
      assert {:ok, _manifest} = install(context)
      script(context, %{Artifact.sidecar(context.artifact) => {:status, 503}})
      assert {:ok, _manifest} = install(context)
      assert [warning] = said(:warning)
      assert warning =~ "(the server answered with status 503)"
    end
  end

  describe "the machine" do
    test "is refused before anything but the manifest is read, with all that it lacks", context do
      host = ReleaseFactory.host(glibc: "2.31", glibcxx: "3.4.28", nif: "2.16", libraries: %{})
      error = refused(context, Artifact.UnfitHostError, host: host)

      assert Exception.message(error) == """
             could not install emily #{context.artifact.version} (cpu, linux-x86_64): this machine is not fit for it

               missing  a VM with NIF version 2.17; this one has 2.16
                        glibc 2.35 or newer; this machine has 2.31
                        libstdc++ with GLIBCXX 3.4.30 or newer; this machine has 3.4.28
                        the shared library libc.so.6

             Mend what is missing and run `mix compile`, or build for this machine: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.\
             """
    end

    test "may lack NVIDIA's driver, which is told whenever it installs", context do
      needs = %{"glibc" => "2.35", "libraries" => ["libc.so.6", "libcuda.so.1"]}

      manifest =
        context.artifact |> ReleaseFactory.manifest(context.files) |> Map.put("requires", needs)

      republish(context, ReleaseFactory.pack(ReleaseFactory.entries(manifest, context.files)))

      for _fresh_or_cached <- 1..2 do
        assert {:ok, _manifest} = install(context)
        assert [warning] = said(:warning)
        assert warning =~ "libcuda.so.1, the NVIDIA driver, is not on this machine"
        assert installed(context) == context.files
      end
    end

    test "is looked at again when the cache has everything", context do
      assert {:ok, _manifest} = install(context)
      host = ReleaseFactory.host(glibc: "2.17")

      assert {:error, %Artifact.UnfitHostError{problems: [problem]}} =
               install(context, host: host)

      assert problem == "glibc 2.35 or newer; this machine has 2.17"
    end
  end

  describe "priv/" do
    test "that cannot be made is an error, and heals", context do
      File.rmdir!(context.priv)
      File.write!(context.priv, "a file where the folder should be")
      assert {:error, %Artifact.InstallError{} = error} = install(context)
      assert Exception.message(error) =~ "could not put files into priv/: "
      assert Exception.message(error) =~ "  path  #{context.priv}/.staging-"

      File.rm!(context.priv)
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
    end
  end
end
